{{- /* The filter's Wasm configuration. All places name the same VM (`vm_id`, code), so that a worker has only one. */ -}}

{{- /* Arguments: values; the configuration that the filter reads, whose `role` says which place it is; network: it is before HTTP. */ -}}
{{- define "attache.wasm" -}}
"@type": type.googleapis.com/envoy.extensions.filters.{{ ternary "network" "http" (default false .network) }}.wasm.v3.Wasm
config:
  name: attache
  root_id: {{ .configuration.role }}
  # A trap costs the exchanges of one worker; the next request gets a new VM.
  failure_policy: FAIL_RELOAD
  # Soon: until then that worker's requests get 503.
  reload_config: {backoff: {base_interval: 0.1s}}
  # Without it, a pause in a headers callback never sees the body.
  allow_on_headers_stop_iteration: true
  vm_config:
    vm_id: attache
    runtime: envoy.wasm.runtime.v8
    allow_precompiled: false
    code:
      local:
        filename: {{ .values.paths.wasm | quote }}
    # Who this pod is, for budgets: from the downward API into Envoy's environment, out of the application's reach.
    environment_variables:
      host_env_keys: [ATTACHE_NAMESPACE, ATTACHE_SERVICE_ACCOUNT, ATTACHE_LABELS]
  # JSON text: a protobuf Struct would reach the filter in protobuf's binary form.
  configuration:
    "@type": type.googleapis.com/google.protobuf.StringValue
    value: |
      {{- include "attache.printable" (.configuration | toPrettyJson) | nindent 6 }}
{{- end -}}

{{- /* JSON without what YAML takes in no form, or for a line's end: DEL, the second set of control characters, and two that are none. Arguments: the text. */ -}}
{{- define "attache.printable" -}}
{{- $text := . -}}
{{- if regexMatch `[\x7f-\x{9f}\x{fffe}\x{ffff}]` $text -}}
  {{- range concat (untilStep 127 160 1) (list 65534 65535) -}}{{- $text = replace (printf "%c" .) (printf `\u%04x` .) $text -}}{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}
