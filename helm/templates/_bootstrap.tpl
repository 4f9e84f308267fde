{{- /* The sidecar's bootstrap: the listeners of each way in, the small one for probes, and where the rest is read. */ -}}

{{- /* Arguments: root, base (attache.envoy as data), mode. */ -}}
{{- define "attache.sidecar.bootstrap" -}}
{{- $values := .root.Values -}}
{{- $bootstrap := deepCopy .base -}}
{{- $listeners := $bootstrap.static_resources.listeners -}}
{{- $plain := first $listeners -}}
{{- $_ := set (index (index $plain.filter_chains 0).filters 0) "typed_config" (include "attache.sidecar.connections" (merge (dict "name" "attache") .) | fromJson) -}}
{{- $listeners = append $listeners (include "attache.sidecar.status" $values | fromYaml) -}}
{{- $clusters := list (include "attache.sidecar.admin" . | fromYaml) -}}
{{- if eq .mode "hosts" -}}
  {{- $listeners = append $listeners (include "attache.sidecar.by-name" . | fromYaml) -}}
{{- else if eq .mode "iptables" -}}
  {{- $listeners = append $listeners (include "attache.sidecar.redirected" (merge (dict "address" "127.0.0.1") .) | fromYaml) -}}
  {{- if $values.interception.ipv6 -}}
    {{- $listeners = append $listeners (include "attache.sidecar.redirected" (merge (dict "address" "::1") .) | fromYaml) -}}
  {{- end -}}
  {{- $clusters = append $clusters (include "attache.sidecar.untouched" . | fromYaml) -}}
{{- end -}}
{{- $_ := set $bootstrap "static_resources" (dict "listeners" $listeners "clusters" $clusters) -}}
{{- $_ := set $bootstrap "dynamic_resources" (dict "cds_config" (include "attache.sidecar.source" "clusters.json" | fromJson)) -}}
{{- /* A socket in the sidecar's own file system: on loopback the application could stop Envoy, and with it forget budgets. */ -}}
{{- $_ := set $bootstrap "admin" (dict "address" (dict "pipe" (dict "path" "/run/attache/admin.sock" "mode" 384))) -}}
{{- toPrettyJson $bootstrap -}}
{{- end -}}

{{- /* What the kubelet and Prometheus may ask from outside of the pod; nothing else of the admin interface. */ -}}
{{- define "attache.sidecar.status" -}}
name: status
address:
  # `::` is for IPv4 too.
  socket_address: {address: {{ .sidecar.status.address | quote }}, port_value: {{ .sidecar.status.port }}, ipv4_compat: {{ eq .sidecar.status.address "::" }}}
filter_chains:
  - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: status
          generate_request_id: false
          http_filters:
            - name: envoy.filters.http.router
              typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            name: status
            virtual_hosts:
              - name: status
                domains: ["*"]
                routes:
                  {{- range list "/ready" "/stats/prometheus" }}
                  - match:
                      path: {{ . }}
                      headers: [{name: ":method", string_match: {exact: GET}}]
                    route: {cluster: sidecar.admin, timeout: 10s}
                  {{- end }}
                  - match: {prefix: /}
                    direct_response: {status: 404}
{{- end -}}

{{- define "attache.sidecar.admin" -}}
name: sidecar.admin
type: STATIC
connect_timeout: 1s
load_assignment:
  cluster_name: sidecar.admin
  endpoints:
    - lb_endpoints:
        - endpoint:
            address:
              pipe: {path: /run/attache/admin.sock}
{{- end -}}

{{- /* TLS as the provider, with the chart's certificate. JSON. */ -}}
{{- define "attache.sidecar.tls" -}}
name: envoy.transport_sockets.tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
  common_tls_context:
    tls_params: {tls_minimum_protocol_version: TLSv1_2}
    alpn_protocols: [h2, http/1.1]
    tls_certificate_sds_secret_configs:
      - name: certificate
        sds_config: {{ include "attache.sidecar.source" "certificate.json" }}
{{- end -}}

{{- /* `hosts`: the providers' names lead to loopback. Arguments: as attache.sidecar.bootstrap. */ -}}
{{- define "attache.sidecar.by-name" -}}
name: intercepted
address:
  socket_address: {address: 127.0.0.1, port_value: 443}
per_connection_buffer_limit_bytes: {{ .root.Values.bufferLimitBytes | int64 }}
filter_chains:
  - transport_socket:
      {{- include "attache.sidecar.tls" . | nindent 6 }}
    filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config: {{ include "attache.sidecar.connections" (merge (dict "name" "intercepted") .) }}
{{- end -}}

{{- /* `iptables`: all of the pod's TLS comes here; what is not a provider's goes on as it came. Arguments: and address. */ -}}
{{- define "attache.sidecar.redirected" -}}
name: redirected-{{ ternary "6" "4" (contains ":" .address) }}
address:
  socket_address: {address: {{ .address | quote }}, port_value: {{ .root.Values.interception.redirectPort }}}
per_connection_buffer_limit_bytes: {{ .root.Values.bufferLimitBytes | int64 }}
listener_filters:
  - name: envoy.filters.listener.original_dst
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}
  - name: envoy.filters.listener.tls_inspector
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
# A server may speak first, or the client wait: no bytes in time are no TLS.
listener_filters_timeout: 1s
continue_on_listener_filters_timeout: true
filter_chains:
  - filter_chain_match:
      server_names: {{ include "attache.sidecar.hosts" .root }}
    transport_socket:
      {{- include "attache.sidecar.tls" . | nindent 6 }}
    filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config: {{ include "attache.sidecar.connections" (merge (dict "name" "intercepted") .) }}
default_filter_chain:
  filters:
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: untouched
        cluster: sidecar.untouched
        # The ends of a connection decide when it is over.
        idle_timeout: 0s
{{- end -}}

{{- define "attache.sidecar.untouched" -}}
name: sidecar.untouched
type: ORIGINAL_DST
lb_policy: CLUSTER_PROVIDED
connect_timeout: 10s
{{ include "attache.unlimited" . }}
{{- end -}}

{{- /* The kernel's side of it: what the pod sends to port 443, but for the sidecar's own, goes to the listener above. */ -}}
{{- define "attache.sidecar.redirect" -}}
table inet attache
delete table inet attache
table inet attache {
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid 1337 return
    oif lo return
    {{ if not .Values.interception.ipv6 }}meta nfproto ipv4 {{ end }}tcp dport 443 redirect to :{{ .Values.interception.redirectPort }}
  }
}
{{ end -}}
