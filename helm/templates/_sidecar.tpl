{{- /*
Envoy as a sidecar: the same listener, filters and clusters as `envoy.yaml`, from the same templates, taken apart so that a
running pod takes up changes without a restart:

  envoy-MODE.json           the bootstrap, one for each way in (`interception.mode`); read when Envoy starts
  clusters.json             CDS: the clusters
  routes.json               RDS: the route of `listener.port`
  routes-intercepted.json   RDS: the routes of the providers' own names
  gateway.yaml              ECDS: the filter with its configuration
  certificate.json          SDS: what the sidecar shows to applications that call a provider by its name
*/ -}}

{{- /* The chart's context as the sidecar has it, JSON. Its paths are the image's. */ -}}
{{- define "attache.sidecar.values" -}}
{{- $paths := dict "wasm" "/attache.wasm" "config" "/etc/attache" "keys" "/etc/attache-keys" -}}
{{- $bundle := ternary "/etc/attache/authorities.pem" "/etc/ssl/certs/ca-certificates.crt" (not (empty .Values.sidecar.authorities)) -}}
{{- mergeOverwrite (deepCopy .Values) (dict "paths" $paths "tls" (dict "caBundle" $bundle)) | toJson -}}
{{- end -}}

{{- /* File name to text, JSON: the entries of the ConfigMap. */ -}}
{{- define "attache.sidecar.files" -}}
{{- $inside := dict "Values" (include "attache.sidecar.values" . | fromJson) "Files" .Files "Release" .Release -}}
{{- $base := include "attache.envoy" $inside | fromYaml -}}
{{- if $base.Error -}}{{- fail (printf "envoy.yaml: %s" $base.Error) -}}{{- end -}}
{{- $files := dict "gateway.yaml" (include "attache.gateway" $inside) "hosts" "127.0.0.1 localhost\n" -}}
{{- with .Values.sidecar.authorities -}}{{- $_ := set $files "authorities.pem" (printf "%s\n" (trim .)) -}}{{- end -}}
{{- $argument := dict "root" $inside "base" $base -}}
{{- $_ := set $files "clusters.json" (include "attache.sidecar.clusters" $argument) -}}
{{- $_ := set $files "routes.json" (include "attache.sidecar.routes" (merge (dict "name" "attache") $argument)) -}}
{{- $_ := set $files "routes-intercepted.json" (include "attache.sidecar.routes" (merge (dict "name" "intercepted") $argument)) -}}
{{- $_ := set $files "certificate.json" (include "attache.sidecar.certificate" .) -}}
{{- $_ := set $files "redirect.nft" (include "attache.sidecar.redirect" .) -}}
{{- range $mode := list "hosts" "iptables" "baseUrl" -}}
  {{- $_ := set $files (printf "envoy-%s.json" $mode) (include "attache.sidecar.bootstrap" (merge (dict "mode" $mode) $argument)) -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- /* Where Envoy reads a resource of its configuration. Arguments: file. */ -}}
{{- define "attache.sidecar.source" -}}
{{- dict "path_config_source" (dict "path" (printf "/etc/attache/%s" .) "watched_directory" (dict "path" "/etc/attache")) | toJson -}}
{{- end -}}

{{- /* A discovery response of these resources. Arguments: type, resources. */ -}}
{{- define "attache.sidecar.response" -}}
{{- $resources := list -}}
{{- range .resources -}}{{- $resources = append $resources (merge (dict "@type" (printf "type.googleapis.com/%s" $.type)) .) -}}{{- end -}}
{{- dict "version_info" (toJson $resources | sha256sum | trunc 16) "resources" $resources | toPrettyJson -}}
{{- end -}}

{{- define "attache.sidecar.clusters" -}}
{{- $clusters := .base.static_resources.clusters -}}
{{- range $clusters -}}
  {{- with dig "typed_extension_protocol_options" "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" dict . -}}
    {{- $filters := list -}}
    {{- range .http_filters -}}
      {{- if eq .name "envoy.filters.http.credential_injector" -}}
        {{- $injector := .typed_config.credential.typed_config -}}
        {{- $filters = append $filters (include "attache.sidecar.key" (dict "injector" $injector "keys" $.root.Values.paths.keys) | fromJson) -}}
      {{- else -}}
        {{- $filters = append $filters . -}}
      {{- end -}}
    {{- end -}}
    {{- if $filters -}}{{- $_ := set . "http_filters" $filters -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- $byName := dict -}}
{{- range $clusters -}}{{- $_ := set $byName .name . -}}{{- end -}}
{{- $options := "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" -}}
{{- /* A WebSocket is HTTP/1.1's; a provider that offers HTTP/2 seldom takes it there (RFC 8441). */ -}}
{{- range include "attache.sidecar.intercepted" .root | fromJsonArray -}}
  {{- $origin := deepCopy (get $byName (printf "origin.%s" .name)) -}}
  {{- $bare := get $byName (printf "bare.%s" (first .clusters)) -}}
  {{- $_ := set $origin "name" (printf "sidecar.http1.%s" .name) -}}
  {{- $_ := set $origin.load_assignment "cluster_name" $origin.name -}}
  {{- $common := get (get $origin.typed_extension_protocol_options $options) "common_http_protocol_options" -}}
  {{- $filters := get (get $bare.typed_extension_protocol_options $options) "http_filters" -}}
  {{- if ne $.root.Values.interception.otherPaths "inject" -}}{{- $filters = list (last $filters) -}}{{- end -}}
  {{- $http1 := dict "http_protocol_options" (dict) -}}
  {{- $_ := set $origin.typed_extension_protocol_options $options (dict "@type" (printf "type.googleapis.com/%s" $options) "common_http_protocol_options" $common "explicit_http_config" $http1 "http_filters" $filters) -}}
  {{- $clusters = append $clusters $origin -}}
{{- end -}}
{{- include "attache.sidecar.response" (dict "type" "envoy.config.cluster.v3.Cluster" "resources" $clusters) -}}
{{- end -}}

{{- /* The providers that applications call by name: those with TLS on port 443, the first of each host. JSON array. */ -}}
{{- define "attache.sidecar.intercepted" -}}
{{- $hosts := list -}}
{{- $found := list -}}
{{- range include "attache.providers" . | fromJsonArray -}}
  {{- if and .tls (not .ip) (eq (int .port) 443) (not (has .host $hosts)) -}}
    {{- $hosts = append $hosts .host -}}
    {{- $found = append $found . -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- /* Every host that is intercepted: the providers' and those of `interception.hosts`. JSON array. */ -}}
{{- define "attache.sidecar.hosts" -}}
{{- $hosts := list -}}
{{- range include "attache.sidecar.intercepted" . | fromJsonArray -}}{{- $hosts = append $hosts .host -}}{{- end -}}
{{- concat $hosts .Values.interception.hosts | uniq | toJson -}}
{{- end -}}

{{- /* Those of them that `hostAliases` can lead to the sidecar: not wildcards, nor what Kubernetes takes for no name, such as `a_b.example`. JSON array. */ -}}
{{- define "attache.sidecar.aliases" -}}
{{- $hosts := list -}}
{{- range include "attache.sidecar.hosts" . | fromJsonArray -}}{{- if regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" . -}}{{- $hosts = append $hosts . -}}{{- end -}}{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{- define "attache.sidecar.connections" -}}
{{- $first := index .base.static_resources.listeners 0 -}}
{{- $connections := deepCopy (index (index $first.filter_chains 0).filters 0).typed_config -}}
{{- $_ := unset $connections "route_config" -}}
{{- $_ := set $connections "stat_prefix" .name -}}
{{- $file := ternary "routes.json" (printf "routes-%s.json" .name) (eq .name "attache") -}}
{{- $_ := set $connections "rds" (dict "route_config_name" .name "config_source" (include "attache.sidecar.source" $file | fromJson)) -}}
{{- /* The pod's annotation `attache/delivery` speaks where the client does not. */ -}}
{{- $type := "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation" -}}
{{- $header := dict "key" "x-attache-delivery" "value" "%ENVIRONMENT(ATTACHE_DELIVERY)%" -}}
{{- $mutation := dict "append" (dict "header" $header "append_action" "ADD_IF_ABSENT") -}}
{{- $_ := set $connections "early_header_mutation_extensions" (list (dict "name" "envoy.http.early_header_mutation.header_mutation" "typed_config" (dict "@type" $type "mutations" (list $mutation)))) -}}
{{- toJson $connections -}}
{{- end -}}

{{- define "attache.sidecar.routes" -}}
{{- $first := index .base.static_resources.listeners 0 -}}
{{- $routes := deepCopy (index (index $first.filter_chains 0).filters 0).typed_config.route_config -}}
{{- $_ := set $routes "name" .name -}}
{{- if eq .name "intercepted" -}}
  {{- $everything := index $routes.virtual_hosts 0 -}}
  {{- $rest := first $everything.routes -}}
  {{- $found := list -}}
  {{- /* Several, as Envoy limits the size of each. */ -}}
  {{- range .root.Files.Get "files/paths.regex" | trim | splitList "\n" -}}
    {{- $found = append $found (merge (dict "match" (dict "safe_regex" (dict "regex" .))) (omit $rest "match")) -}}
  {{- end -}}
  {{- range include "attache.sidecar.intercepted" .root | fromJsonArray -}}
    {{- $found = concat $found (include "attache.sidecar.others" (dict "values" $.root.Values "provider" .) | fromJsonArray) -}}
  {{- end -}}
  {{- $_ := set $everything "routes" (append $found $rest) -}}
{{- end -}}
{{- include "attache.sidecar.response" (dict "type" "envoy.config.route.v3.RouteConfiguration" "resources" (list $routes)) -}}
{{- end -}}

{{- /* What of a provider's host is no conversation (files, embeddings, lists of models …): past the filter. JSON array. */ -}}
{{- define "attache.sidecar.others" -}}
{{- $way := .values.interception.otherPaths -}}
{{- if ne $way "refuse" -}}
{{- $cluster := ternary (printf "bare.%s" (first .provider.clusters)) (printf "origin.%s" .provider.name) (eq $way "inject") -}}
{{- $past := dict "attache" (dict "@type" "type.googleapis.com/envoy.config.route.v3.FilterConfig" "disabled" true) -}}
{{- $remove := list "x-forwarded-for" "x-forwarded-proto" "x-envoy-internal" "x-envoy-external-address" "x-attache-delivery" -}}
{{- $host := dict "name" ":authority" "string_match" (dict "safe_regex" (dict "regex" (printf "^%s(:443)?$" (regexQuoteMeta .provider.host)))) -}}
{{- $upgrade := dict "name" "upgrade" "string_match" (dict "exact" "websocket" "ignore_case" true) -}}
{{- $socket := dict "cluster" (printf "sidecar.http1.%s" .provider.name) "timeout" "0s" "upgrade_configs" (list (dict "upgrade_type" "websocket")) -}}
{{- $common := dict "typed_per_filter_config" $past "request_headers_to_remove" $remove -}}
{{- $sockets := merge (dict "match" (dict "prefix" "/" "headers" (list $host $upgrade)) "route" $socket) $common -}}
{{- $rest := merge (dict "match" (dict "prefix" "/" "headers" (list $host)) "route" (dict "cluster" $cluster "timeout" "0s")) $common -}}
{{- list $sockets $rest | toJson -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{- define "attache.sidecar.certificate" -}}
{{- $file := dict "certificate_chain" (dict "filename" "/etc/attache-tls/tls.crt") "private_key" (dict "filename" "/etc/attache-tls/tls.key") "watched_directory" (dict "path" "/etc/attache-tls") -}}
{{- $secret := dict "name" "certificate" "tls_certificate" $file -}}
{{- include "attache.sidecar.response" (dict "type" "envoy.extensions.transport_sockets.tls.v3.Secret" "resources" (list $secret)) -}}
{{- end -}}
