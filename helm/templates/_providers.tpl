{{- /* The providers as clusters need them: origin taken apart, credential header looked up; or every fault at once. */ -}}

{{- /* JSON object {"providers": […], "faults": […]}; callers read it with fromJson. */ -}}
{{- define "attache.resolve" -}}
{{- $table := .Files.Get "files/providers.json" | fromJson -}}
{{- $known := keys $table | sortAlpha -}}
{{- $faults := list -}}
{{- $providers := list -}}
{{- $names := list -}}
{{- $form := "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" -}}
{{- /* Clusters of the chart's own, and the first parts of others' names. */ -}}
{{- $ours := list "bare" "fleet" "hop" "none" "nowhere" "origin" "sidecar" -}}
{{- if not .Values.gateway.providers -}}
  {{- $faults = append $faults "gateway.providers: none; at least one is needed" -}}
{{- end -}}
{{- range $i, $given := .Values.gateway.providers -}}
  {{- $path := printf "gateway.providers[%d]" $i -}}
  {{- $name := $given.name | default "" | toString -}}
  {{- if not (regexMatch $form $name) -}}
    {{- $faults = append $faults (printf "%s.name: expected lower-case letters, digits and inner hyphens, found `%s`" $path $name) -}}
  {{- else if has $name $names -}}
    {{- $faults = append $faults (printf "%s.name: a second provider named `%s`; names must differ" $path $name) -}}
  {{- else if has $name $ours -}}
    {{- $faults = append $faults (printf "%s.name: `%s` is a name of the gateway's own; take another" $path $name) -}}
  {{- end -}}
  {{- $names = append $names $name -}}
  {{- $row := $given.provider | default $name -}}
  {{- $credentials := $given.credentials | default "inject" -}}
  {{- if not (has $credentials (list "inject" "passthrough")) -}}
    {{- $faults = append $faults (printf "%s.credentials: expected `inject` or `passthrough`, found `%v`" $path $credentials) -}}
  {{- end -}}
  {{- $keys := list -}}
  {{- range $k, $key := $given.keys -}}
    {{- $name := $key.name | default "" | toString -}}
    {{- if not (regexMatch $form $name) -}}
      {{- $faults = append $faults (printf "%s.keys[%d].name: expected lower-case letters, digits and inner hyphens, found `%s`" $path $k $name) -}}
    {{- else if has $name $keys -}}
      {{- $faults = append $faults (printf "%s.keys[%d].name: a second key named `%s`; names must differ" $path $k $name) -}}
    {{- end -}}
    {{- $keys = append $keys $name -}}
  {{- end -}}
  {{- if and $keys (eq $credentials "passthrough") -}}
    {{- $faults = append $faults (printf "%s.keys: no key is used with `credentials: passthrough`; leave one of both out" $path) -}}
  {{- end -}}
  {{- $clusters := list $name -}}
  {{- if $keys -}}
    {{- $clusters = list -}}
    {{- range $keys -}}{{- $clusters = append $clusters (printf "%s.%s" $name .) -}}{{- end -}}
  {{- end -}}
  {{- if not (hasKey $table $row) -}}
    {{- $where := ternary "provider" "name" (hasKey $given "provider") -}}
    {{- $hint := include "attache.hint" (dict "word" $row "known" $known) -}}
    {{- $faults = append $faults (printf "%s.%s: unknown provider `%s`%s; known are %s" $path $where $row $hint (join ", " $known)) -}}
  {{- else -}}
    {{- $entry := get $table $row -}}
    {{- $origin := $given.origin | default $entry.origin -}}
    {{- if not (regexMatch "^https?://([A-Za-z0-9._-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?(/[^?#\\s]*)?$" $origin) -}}
      {{- $faults = append $faults (printf "%s.origin: expected `http(s)://host[:port][/prefix]`, found `%s`" $path $origin) -}}
    {{- else -}}
      {{- $scheme := regexFind "^https?" $origin -}}
      {{- $authority := regexFind "^[^/]+" (trimPrefix (printf "%s://" $scheme) $origin) -}}
      {{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $authority) | default (ternary "443" "80" (eq $scheme "https")) | int -}}
      {{- if or (lt $port 1) (gt $port 65535) -}}
        {{- $faults = append $faults (printf "%s.origin: port %d is not between 1 and 65535" $path $port) -}}
      {{- end -}}
      {{- $host := regexReplaceAll ":[0-9]+$" $authority "" | trimPrefix "[" | trimSuffix "]" | lower -}}
      {{- /* A certificate has no dot at the end. */ -}}
      {{- if eq $scheme "https" -}}{{- $host = trimSuffix "." $host -}}{{- end -}}
      {{- $ip := or (contains ":" $host) (regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host) -}}
      {{- $providers = append $providers (dict "name" $name "clusters" $clusters "tls" (eq $scheme "https") "host" $host "port" $port "ip" $ip "inject" (eq $credentials "inject") "header" $entry.credential.header "prefix" $entry.credential.prefix) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $r, $route := .Values.gateway.routes -}}
  {{- range $t, $target := $route.targets -}}
    {{- $provider := $target.provider | default "" | toString -}}
    {{- if not (has $provider $names) -}}
      {{- $hint := include "attache.hint" (dict "word" $provider "known" $names) -}}
      {{- $faults = append $faults (printf "gateway.routes[%d].targets[%d].provider: unknown provider `%s`%s; configured are %s" $r $t $provider $hint (uniq $names | join ", ")) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.fleet.address -}}
  {{- if not (regexMatch "^([A-Za-z0-9._-]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$" .) -}}
    {{- $faults = append $faults (printf "fleet.address: expected `host:port`, found `%s`" .) -}}
  {{- end -}}
{{- end -}}
{{- if and (hasKey .Values.gateway "fleet") (not .Values.fleet.address) -}}
  {{- $faults = append $faults "fleet.address: `gateway.fleet` needs the rate-limit service's `host:port`" -}}
{{- end -}}
{{- if .Values.sidecar.enabled -}}
  {{- if not (has .Values.interception.mode (include "attache.modes" . | fromJsonArray)) -}}
    {{- $faults = append $faults "interception.mode: `baseUrl` leads applications to `http://`, and `listener.transportSocket` takes no plain HTTP; leave one of both out" -}}
  {{- end -}}
  {{- $limit := get (.Values.sidecar.resources.limits | default dict) "memory" -}}
  {{- $heap := int64 .Values.overload.heapBytes -}}
  {{- if and $limit (lt (include "attache.quantity" $limit | float64) (float64 $heap)) -}}
    {{- $faults = append $faults (printf "sidecar.resources.limits.memory: %v is less than `overload.heapBytes` (%d), from which on Envoy refuses requests; the kernel would end it before; raise the one or lower the other" $limit $heap) -}}
  {{- end -}}
{{- end -}}
{{- dict "providers" $providers "faults" $faults | toJson -}}
{{- end -}}

{{- /* "; did you mean `x`?" for the known word that shares the longest beginning and end with this one; else nothing. */ -}}
{{- define "attache.hint" -}}
{{- $word := .word -}}
{{- $best := 2 -}}
{{- $hint := "" -}}
{{- range $known := .known -}}
  {{- $shared := 0 -}}
  {{- range $n := untilStep 1 (add1 (min (len $word) (len $known)) | int) 1 -}}
    {{- if hasPrefix (trunc $n $word) $known -}}{{- $shared = add1 $shared -}}{{- end -}}
    {{- if hasSuffix (trunc (mul -1 $n | int) $word) $known -}}{{- $shared = add1 $shared -}}{{- end -}}
  {{- end -}}
  {{- if gt (int $shared) (int $best) -}}
    {{- $best = $shared -}}
    {{- $hint = printf "; did you mean `%s`?" $known -}}
  {{- end -}}
{{- end -}}
{{- $hint -}}
{{- end -}}

{{- /* The resolved providers, or the end of the rendering with every fault. */ -}}
{{- define "attache.providers" -}}
{{- $resolved := include "attache.resolve" . | fromJson -}}
{{- $n := len $resolved.faults -}}
{{- if $n -}}
  {{- fail (printf "\n\nconfig: %d %s\n  %s\n" $n (ternary "fault" "faults" (eq $n 1)) (join "\n  " $resolved.faults)) -}}
{{- end -}}
{{- $resolved.providers | toJson -}}
{{- end -}}
