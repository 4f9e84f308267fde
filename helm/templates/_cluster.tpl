{{- /*
A provider as Envoy's clusters. How to get there and whose key to carry are apart:

  origin.NAME       its address and its trust, shared by all that follow, connections included
  NAME, NAME.KEY    an attempt with that key: the filter, then the injector
  bare.NAME, …      the same without the filter, for the hop (_hop.tpl), where the filter has run before
*/ -}}

{{- /* Arguments: values, provider (an element of attache.providers). */ -}}
{{- define "attache.origin" -}}
name: origin.{{ .provider.name }}
{{- if .provider.ip }}
type: STATIC
{{- else }}
# One logical host: a connection tries the addresses in turn (RFC 8305), and an answer that names others cuts nothing off.
# There is no outlier detection for that reason: it could only take the last host away.
type: LOGICAL_DNS
dns_lookup_family: ALL
# A name that did not resolve is asked for again soon, as networks come up late.
dns_failure_refresh_rate: {base_interval: 1s, max_interval: 5s}
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    # Envoy starts when every name was asked for; with a resolver that is silent, the usual limits are 50 seconds.
    query_timeout_seconds: 1
    query_tries: 2
    dns_resolver_options:
      # Public names are whole: no search path is tried first. Plain HTTP is for names of one's own network, and these are a cluster's.
      no_default_search_domain: {{ and .provider.tls (contains "." .provider.host) (not (hasSuffix ".svc" .provider.host)) }}
{{- end }}
# TCP and TLS. Long enough for one lost packet; an attempt's own limit begins when the connection is there.
connect_timeout: 3s
# What is read at once from a connection: the filter must see an answer that is too large to be held before it overruns
# what holds it.
per_connection_buffer_limit_bytes: 1048576
{{ include "attache.unlimited" . }}
load_assignment:
  cluster_name: origin.{{ .provider.name }}
  endpoints:
    - lb_endpoints:
        - endpoint:
            address:
              socket_address: {address: {{ .provider.host | quote }}, port_value: {{ .provider.port }}}
upstream_connection_options:
  # A model may think for minutes; network address translation forgets silent connections.
  tcp_keepalive: {keepalive_time: 60, keepalive_interval: 15, keepalive_probes: 4}
{{- if .provider.tls }}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    {{- if not .provider.ip }}
    sni: {{ .provider.host | quote }}
    {{- end }}
    common_tls_context:
      tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
      validation_context:
        trusted_ca: {filename: {{ .values.tls.caBundle | quote }}}
        match_typed_subject_alt_names:
          - san_type: {{ ternary "IP_ADDRESS" "DNS" .provider.ip }}
            matcher: {exact: {{ .provider.host | quote }}}
{{- end }}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    # Shorter than a load balancer's usual minute, so that it is Envoy that closes an idle connection.
    common_http_protocol_options: {idle_timeout: 50s}
    {{- if .provider.tls }}
    # HTTP/2 where the provider offers it (ALPN), else HTTP/1.1.
    auto_config:
      http_protocol_options: {}
      http2_protocol_options: {}
    {{- else }}
    explicit_http_config:
      http_protocol_options: {}
    {{- end }}
{{- end -}}

{{- /* Arguments: values, provider, name (one of its clusters), bare (without the filter). */ -}}
{{- define "attache.cluster" -}}
name: {{ printf "%s%s" (ternary "bare." "" .bare) .name | quote }}
# While the name of the host does not resolve, the origin has no host, and Envoy would answer before any attempt. So an
# attempt is made at a place that refuses it, and fails over as any refused one.
lb_policy: CLUSTER_PROVIDED
cluster_type:
  name: envoy.clusters.aggregate
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig
    clusters: [origin.{{ .provider.name }}, nowhere]
connect_timeout: 5s
# What the filter may hold.
per_connection_buffer_limit_bytes: {{ .values.bufferLimitBytes | int64 }}
{{ include "attache.unlimited" . }}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    # Not used: the origin's are.
    explicit_http_config:
      http_protocol_options: {}
    http_filters:
      {{- if not .bare }}
      - name: attache
        typed_config:
          {{- include "attache.wasm" (dict "values" .values "configuration" (dict "role" "provider")) | nindent 10 }}
      {{- end }}
      {{- if .provider.inject }}
      # After the filter, so that the key never enters the VM. Without a key file the request goes without a credential:
      # servers of one's own often need none, and the others say so themselves (401).
      - name: envoy.filters.http.credential_injector
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
          overwrite: true
          allow_request_without_credential: true
          credential:
            name: envoy.http.injected_credentials.generic
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
              header: {{ .provider.header }}
              {{- with .provider.prefix }}
              header_value_prefix: {{ . | quote }}
              {{- end }}
              credential:
                name: {{ .name | quote }}
                sds_config:
                  path_config_source:
                    path: {{ printf "%s/secret-%s.yaml" .values.paths.config .name | quote }}
                    watched_directory: {path: {{ .values.paths.config | quote }}}
      {{- end }}
      - name: envoy.filters.http.upstream_codec
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
{{- end -}}

{{- /* Every cluster's own limits. Arguments: values. */ -}}
{{- define "attache.unlimited" -}}
# Nothing here limits traffic; the defaults (three retries at a time) would end failover under load.
circuit_breakers:
  thresholds:
    - {priority: DEFAULT, max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000, max_retries: 1000000}
{{- end -}}

{{- /* The two clusters that lead nowhere. Arguments: values. */ -}}
{{- define "attache.nowhere" -}}
# Nothing can listen on port 0: the system refuses the connection at once, and the router tries the next target.
- name: nowhere
  type: STATIC
  connect_timeout: 1s
  {{- include "attache.unlimited" . | nindent 2 }}
  load_assignment:
    cluster_name: nowhere
    endpoints:
      - lb_endpoints:
          - endpoint:
              address:
                socket_address: {address: 127.0.0.1, port_value: 0}
# Without a host the router answers 503 itself and tries no more.
- name: none
  type: STATIC
  connect_timeout: 1s
{{- end -}}
