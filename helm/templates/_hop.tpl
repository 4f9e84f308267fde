{{- /*
The hop: a second router, behind the filter, through a listener inside Envoy. It is for two kinds of streams.

Those that are held until they are complete (`delivery: whole`): the router's limit on an attempt runs until the filter lets
go of the answer's head, minutes here, so it cannot be the limit on the first token. The hop's router has one that ends with
the provider's head.

Those that the filter may have to end, and well: it can only reset an answer, but it can close a connection. The hop's
answers are therefore of HTTP/1.0, a connection for each and at its end when that closes: nothing is left unsaid, the
router before sees an end as any other, and the one behind hangs up on the provider at once.

  router ─► hop: the filter ─► listener `hop`: the filter again, then HTTP ─► bare.NAME: the injector ─► provider

The filter says in two request headers what it wants, and both end here: `x-attache-cluster`, such as `bare.openai`, and
`x-attache-timeout`, milliseconds until the head; then comes 504. `x-attache-envoy` on an answer says that Envoy made it,
and why; `x-attache-hop`, which connection it came over.
*/ -}}

{{- /* The listener. Only Envoy reaches it. Arguments: values. */ -}}
{{- define "attache.hop.listener" -}}
name: hop
internal_listener: {}
per_connection_buffer_limit_bytes: {{ .values.bufferLimitBytes | int64 }}
filter_chains:
  - filters:
      - name: attache
        typed_config:
          {{- include "attache.wasm" (dict "values" .values "network" true "configuration" (dict "role" "hop")) | nindent 10 }}
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hop
          codec_type: HTTP1
          # What the filter makes of each request.
          http_protocol_options: {accept_http_10: true}
          # Headers go through as the filter left them. There is room for the few that are added between the two routers.
          common_http_protocol_options: {max_headers_count: 200}
          max_request_headers_kb: 96
          skip_xff_append: true
          generate_request_id: false
          server_header_transformation: PASS_THROUGH
          # The filter's router ends every exchange.
          stream_idle_timeout: 0s
          # A stream that the provider cut off is cut off here at once, not after the usual second.
          delayed_close_timeout: 0s
          # An answer of Envoy's own: the filter must not take it for the provider's.
          local_reply_config:
            mappers:
              - filter: {not_health_check_filter: {}}
                headers_to_add:
                  - header: {key: x-attache-envoy, value: "%RESPONSE_CODE_DETAILS%"}
                    append_action: OVERWRITE_IF_EXISTS_OR_ADD
          http_filters:
            # Under the router's own name the limit would be taken away: it looks as if a client had sent it.
            - name: envoy.filters.http.header_mutation
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                mutations:
                  request_mutations:
                    - append:
                        header: {key: x-envoy-upstream-rq-per-try-timeout-ms, value: "%REQ(x-attache-timeout)%"}
                        append_action: OVERWRITE_IF_EXISTS_OR_ADD
                    - remove: x-attache-timeout
            - name: envoy.filters.http.router
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                suppress_envoy_headers: true
          route_config:
            name: hop
            virtual_hosts:
              - name: hop
                domains: ["*"]
                routes:
                  - match: {prefix: /}
                    request_headers_to_remove: [x-attache-cluster, x-forwarded-proto]
                    # With a length an answer that is ended before would be a broken one; whether it is whole is for its
                    # protocol to say. The others would be a provider's own.
                    response_headers_to_remove: [content-length, x-attache-envoy, x-attache-hop]
                    # No retries: they are the filter's.
                    route: {cluster_header: x-attache-cluster, timeout: 0s}
{{- end -}}

{{- /* The cluster. Arguments: values. */ -}}
{{- define "attache.hop.cluster" -}}
name: hop
type: STATIC
connect_timeout: 5s
per_connection_buffer_limit_bytes: {{ .values.bufferLimitBytes | int64 }}
{{ include "attache.unlimited" . }}
load_assignment:
  cluster_name: hop
  endpoints:
    - lb_endpoints:
        - endpoint:
            address:
              envoy_internal_address: {server_listener_name: hop}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    common_http_protocol_options: {max_headers_count: 200, max_response_headers_kb: 96}
    explicit_http_config:
      http_protocol_options: {}
    http_filters:
      - name: attache
        typed_config:
          {{- include "attache.wasm" (dict "values" .values "configuration" (dict "role" "provider")) | nindent 10 }}
      - name: envoy.filters.http.upstream_codec
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
{{- end -}}
