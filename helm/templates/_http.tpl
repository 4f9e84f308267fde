{{- /* The HTTP connection manager: what of HTTP is accepted, the filter, and the one route. */ -}}

{{- /* Arguments: values, providers (attache.providers). */ -}}
{{- define "attache.http" -}}
{{- $limit := .values.bufferLimitBytes | int64 -}}
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: attache
codec_type: AUTO
http2_protocol_options:
  # An HTTP/2 stream buffers no more than its window, and the whole body is buffered.
  initial_stream_window_size: {{ $limit }}
  initial_connection_window_size: {{ $limit }}
  max_concurrent_streams: 1000
# The peer is the client, and it is nobody's business: no address is added to what providers see.
use_remote_address: true
skip_xff_append: true
generate_request_id: false
# The provider's `server` header goes to the client as it came.
server_header_transformation: PASS_THROUGH
normalize_path: true
merge_slashes: false
path_with_escaped_slashes_action: KEEP_UNCHANGED
request_headers_timeout: 30s
# For the whole of a request to arrive; it does not run while the model thinks.
request_timeout: 300s
# An answer that broke off: its connection is closed soon, not after the usual second.
delayed_close_timeout: 0.1s
# A model may be silent for long. The route's own limits end every exchange.
stream_idle_timeout: 0s
http_filters:
  {{- with .values.listener.httpFilters }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  - name: attache
    config_discovery:
      config_source:
        path_config_source:
          path: {{ printf "%s/gateway.yaml" .values.paths.config | quote }}
          watched_directory: {path: {{ .values.paths.config | quote }}}
      type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
  - name: envoy.filters.http.router
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
      suppress_envoy_headers: true
route_config:
  name: attache
  virtual_hosts:
    - name: attache
      domains: ["*"]
      routes:
        # Admitted: the filter has said how often it may be tried.
        - match: {prefix: /, headers: [{name: x-envoy-max-retries, present_match: true}]}
          # A larger body is served, but not kept for another target.
          request_body_buffer_limit: {{ .values.replayLimitBytes | int64 }}
          request_headers_to_remove: [x-forwarded-for, x-forwarded-proto, x-envoy-internal, x-envoy-external-address]
          response_headers_to_remove: [x-attache-wait]
          route:
            # The filter sets both limits for each request.
            timeout: 0s
            # Without it, the other route's would stay in force.
            idle_timeout: 0s
            # The cluster is read anew for every attempt: the filter names the next one in the filter state.
            inline_cluster_specifier_plugin:
              extension:
                name: envoy.router.cluster_specifier_plugin.matcher
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier
                  cluster_matcher:
                    matcher_tree:
                      input:
                        name: next
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.FilterStateInput
                          key: wasm.llm_next
                      # The entry begins with the cluster's name and a slash; the filter's ticket follows.
                      prefix_match_map:
                        map:
                          hop/:
                            {{- include "attache.action" "hop" | nindent 28 }}
                          {{- range $provider := .providers }}
                          {{- range $provider.clusters }}
                          {{ printf "%s/" . | quote }}:
                            {{- include "attache.action" . | nindent 28 }}
                          {{- end }}
                          {{- end }}
                    # Otherwise a retry would go to the cluster of the attempt before, whatever it was made for.
                    on_no_match:
                      {{- include "attache.action" "none" | nindent 22 }}
            retry_policy:
              # 599 is the filter's word for "the next target, please". The filter sets the number for each request.
              retry_on: connect-failure,refused-stream,reset,retriable-status-codes
              retriable_status_codes: [599]
              num_retries: 1
              refresh_cluster_on_retry: true
              retry_back_off: {base_interval: 0.005s, max_interval: 0.050s}
              # How long to wait before the next attempt is the filter's to say, beside its 599: whole seconds, to which Envoy adds
              # up to a half. Without the header, or with 0, the line above holds.
              rate_limited_retry_back_off:
                reset_headers:
                  - {name: x-attache-wait, format: SECONDS}
                max_interval: 86400s
        # Not yet: its body comes, or it waits for a budget. Where the VM in which it waits has died nothing else would end it.
        - match: {prefix: /}
          request_body_buffer_limit: {{ .values.replayLimitBytes | int64 }}
          route: {cluster: none, idle_timeout: {{ add 5 (int64 .values.queueLimitSeconds) }}s}
{{- end -}}

{{- /* A match: that cluster. */ -}}
{{- define "attache.action" -}}
action:
  name: {{ . | quote }}
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction
    cluster: {{ . | quote }}
{{- end -}}
