{{- /* envoy.yaml: the bootstrap. One listener, one route for everything, clusters for each provider. */ -}}
{{- define "attache.envoy" -}}
{{- $values := .Values -}}
{{- $providers := include "attache.providers" . | fromJsonArray -}}
{{- $limit := .Values.bufferLimitBytes | int64 -}}
{{- $verifies := regexMatch "trusted_ca|validation_context_sds_secret_config|combined_validation_context" (.Values.listener.transportSocket | toJson) -}}
{{- if and .Values.listener.transportSocket (not $verifies) -}}
{{- range $at, $budget := .Values.gateway.budgets -}}
{{- if or (has "peer" ($budget.per | default list)) (hasKey (dig "match" "facts" dict $budget) "peer") -}}
{{- fail (printf "\n\nconfig: 1 fault\n  gateway.budgets[%d]: it is kept by `peer`, and no client's certificate is verified; give listener.transportSocket a `validation_context` with a `trusted_ca`\n" $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}
node: {id: attache, cluster: attache}
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: {{ .Values.admin.port }}}
# For the listener `hop`, which is inside Envoy.
bootstrap_extensions:
  - name: envoy.bootstrap.internal_listener
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener
static_resources:
  listeners:
    - name: attache
      address:
        socket_address: {address: {{ .Values.listener.address | quote }}, port_value: {{ .Values.listener.port }}}
      per_connection_buffer_limit_bytes: {{ $limit }}
      filter_chains:
        - {{- with .Values.listener.transportSocket }}
          transport_socket:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                {{- include "attache.http" (dict "values" $values "providers" $providers) | nindent 16 }}
    - {{ include "attache.hop.listener" (dict "values" $values) | nindent 6 | trim }}
  clusters:
    {{- range $provider := $providers }}
    - {{ include "attache.origin" (dict "values" $values "provider" $provider) | nindent 6 | trim }}
    {{- range $provider.clusters }}
    - {{ include "attache.cluster" (dict "values" $values "provider" $provider "name" . "bare" false) | nindent 6 | trim }}
    - {{ include "attache.cluster" (dict "values" $values "provider" $provider "name" . "bare" true) | nindent 6 | trim }}
    {{- end }}
    {{- end }}
    - {{ include "attache.hop.cluster" (dict "values" $values) | nindent 6 | trim }}
    {{- include "attache.nowhere" (dict "values" $values) | nindent 4 }}
    {{- if .Values.fleet.address }}
    - {{ include "attache.fleet" (dict "values" $values) | nindent 6 | trim }}
    {{- end }}
# The filter's metrics carry their labels in the name: `attache_attempts;provider=openai;class=ok`.
stats_config:
  stats_tags:
    {{- range list "provider" "key" "model" "class" "client" "type" "budget" }}
    - {tag_name: {{ . }}, regex: '^wasmcustom\..*?(;{{ . }}=([^;]*))'}
    {{- end }}
# Compiling the filter takes memory that is not needed again: in a second or two it goes back, 25 MB at rest.
memory_allocator_manager: {bytes_to_release: 16777216, memory_release_interval: 1s}
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.fixed_heap
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig
        max_heap_size_bytes: {{ .Values.overload.heapBytes | int64 }}
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ .Values.overload.connections | int64 }}
  actions:
    - name: envoy.overload_actions.shrink_heap
      triggers:
        - {name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.9}}
    - name: envoy.overload_actions.stop_accepting_requests
      triggers:
        - {name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.95}}
{{- end -}}
