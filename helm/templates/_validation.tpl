{{- /* The whole configuration as one bootstrap without anything to be fetched, as Envoy's validation mode follows no files. */ -}}

{{- /* File name to text, JSON. */ -}}
{{- define "attache.sidecar.validation" -}}
{{- $inside := dict "Values" (include "attache.sidecar.values" . | fromJson) "Files" .Files "Release" .Release -}}
{{- $base := include "attache.envoy" $inside | fromYaml -}}
{{- $argument := dict "root" $inside "base" $base -}}
{{- $whole := include "attache.sidecar.bootstrap" (merge (dict "mode" "hosts") $argument) | fromJson -}}
{{- $redirected := include "attache.sidecar.redirected" (merge (dict "address" "127.0.0.1") $argument) | fromYaml -}}
{{- $untouched := include "attache.sidecar.untouched" $argument | fromYaml -}}
{{- $clusters := (include "attache.sidecar.clusters" $argument | fromJson).resources -}}
{{- range $clusters -}}{{- $_ := unset . "@type" -}}{{- end -}}
{{- $_ := set $whole.static_resources "clusters" (concat $whole.static_resources.clusters $clusters (list $untouched)) -}}
{{- $_ := set $whole.static_resources "listeners" (append $whole.static_resources.listeners $redirected) -}}
{{- $_ := unset $whole "dynamic_resources" -}}
{{- $filter := (index (include "attache.gateway" $inside | fromYaml).resources 0).typed_config -}}
{{- range $whole.static_resources.listeners -}}
  {{- range .filter_chains -}}
    {{- $connections := (first .filters).typed_config -}}
    {{- if hasKey $connections "rds" -}}
      {{- $routes := first (include "attache.sidecar.routes" (merge (dict "name" $connections.rds.route_config_name) $argument) | fromJson).resources -}}
      {{- $_ := unset $connections "rds" -}}
      {{- $_ := set $connections "route_config" (unset $routes "@type") -}}
      {{- range $connections.http_filters -}}
        {{- if eq .name "attache" -}}
          {{- $_ := unset . "config_discovery" -}}
          {{- $_ := set . "typed_config" $filter -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- /* Nobody reads it, and a ConfigMap ends at 1 MiB. */ -}}
{{- $files := dict "envoy.json" (toJson $whole) -}}
{{- /* These must be there, though they are not read. */ -}}
{{- range $name, $text := include "attache.sidecar.files" . | fromJson -}}
  {{- if has $name (list "certificate.json" "authorities.pem") -}}{{- $_ := set $files $name $text -}}{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}
