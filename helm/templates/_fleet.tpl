{{- /* The fleet's rate-limit service as a cluster, which the filter calls. Arguments: values. */ -}}
{{- define "attache.fleet" -}}
{{- $host := regexReplaceAll ":[0-9]+$" .values.fleet.address "" | trimPrefix "[" | trimSuffix "]" -}}
{{- $ip := or (contains ":" $host) (regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host) -}}
name: fleet
{{- if $ip }}
type: STATIC
{{- else }}
type: STRICT_DNS
dns_lookup_family: ALL
# A name that did not resolve is asked for again soon, as networks come up late.
dns_failure_refresh_rate: {base_interval: 1s, max_interval: 5s}
{{- end }}
connect_timeout: 1s
{{ include "attache.unlimited" . }}
load_assignment:
  cluster_name: fleet
  endpoints:
    - lb_endpoints:
        - endpoint:
            address:
              socket_address: {address: {{ $host | quote }}, port_value: {{ regexFind "[0-9]+$" .values.fleet.address }}}
{{- if .values.fleet.tls }}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    {{- if not $ip }}
    sni: {{ $host | quote }}
    {{- end }}
    common_tls_context:
      tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
      validation_context:
        trusted_ca: {filename: {{ .values.tls.caBundle | quote }}}
        match_typed_subject_alt_names:
          - san_type: {{ ternary "IP_ADDRESS" "DNS" $ip }}
            matcher: {exact: {{ $host | quote }}}
{{- end }}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config:
      http2_protocol_options:
        # A service that is gone without a word is found out by this, and connected to anew.
        connection_keepalive: {interval: 5s, timeout: 2s}
{{- end -}}
