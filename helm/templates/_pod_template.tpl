{{- /*
For clusters without admission policies, and for who would rather see it in the manifest: the pod change (_pod.tpl) applied
to a pod template when a chart is rendered.

    spec:
      template:
        {{- include "attache.pod" (dict "context" .Subcharts.attache "template" (include "my.pod" . | fromYaml)) | nindent 8 }}

`context` is this chart's (as a dependency: `.Subcharts.attache`, whose release must be in the same namespace), `template` an
object with `metadata` and `spec`. What the pod has already stays: variables, aliases, mounts, its own init containers.
*/ -}}
{{- define "attache.pod" -}}
{{- $pod := deepCopy .template -}}
{{- $metadata := $pod.metadata | default dict -}}
{{- $notes := $metadata.annotations | default dict -}}
{{- $mode := get $notes "attache/mode" | default .context.Values.interception.mode -}}
{{- $modes := include "attache.modes" .context | fromJsonArray -}}
{{- if not (has $mode $modes) -}}
  {{- fail (printf "\n\nconfig: 1 fault\n  annotation attache/mode: expected `%s`, found `%s`" (join "`, `" $modes) $mode) -}}
{{- end -}}
{{- $ours := list "attache" "attache-redirect" -}}
{{- range concat ($pod.spec.initContainers | default list) ($pod.spec.containers | default list) -}}
  {{- $mounts := list -}}
  {{- range .volumeMounts | default list -}}{{- $mounts = append $mounts .name -}}{{- end -}}
  {{- /* What was changed before has the sidecar already, which mounts what no other container does. */ -}}
  {{- if and (has .name $ours) (not (has "attache-config" $mounts)) -}}
    {{- fail (printf "\n\nconfig: 1 fault\n  container %s: the name is the sidecar's; call yours otherwise" .name) -}}
  {{- end -}}
{{- end -}}
{{- if not (has (get $notes "attache/delivery" | default "live") (list "live" "whole")) -}}
  {{- fail (printf "\n\nconfig: 1 fault\n  annotation attache/delivery: expected `live`, `whole`, found `%s`" (get $notes "attache/delivery")) -}}
{{- end -}}
{{- $change := include "attache.pod.change" (dict "root" .context "cel" false "notes" $notes) | fromJson -}}
{{- $only := list -}}
{{- with get $notes "attache/containers" -}}
  {{- range splitList "," . -}}{{- $only = append $only (trim .) -}}{{- end -}}
{{- end -}}
{{- /* The policy must not do it again. */ -}}
{{- $_ := set $metadata "labels" (merge (dict "attache/inject" "false") ($metadata.labels | default dict)) -}}
{{- $_ := set $pod "metadata" $metadata -}}
{{- range $kind := list "containers" "initContainers" -}}
  {{- range get $pod.spec $kind | default list -}}
    {{- if and (not (has .name $ours)) (or (not $only) (has .name $only)) -}}
      {{- include "attache.pod.application" (dict "container" . "change" $change "mode" $mode) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- include "attache.pod.lists" (dict "spec" $pod.spec "change" $change "mode" $mode) -}}
{{- toYaml $pod -}}
{{- end -}}

{{- /* Changes a container in place. Arguments: container, change, mode. */ -}}
{{- define "attache.pod.application" -}}
{{- $given := list -}}
{{- range .container.env -}}{{- $given = append $given .name -}}{{- end -}}
{{- $env := .container.env | default list -}}
{{- range .change.environment -}}
  {{- $taken := false -}}
  {{- range .unless -}}{{- if has . $given -}}{{- $taken = true -}}{{- end -}}{{- end -}}
  {{- if and (has $.mode .modes) (not $taken) -}}{{- $env = append $env (dict "name" .name "value" .value) -}}{{- end -}}
{{- end -}}
{{- if $env -}}{{- $_ := set .container "env" $env -}}{{- end -}}
{{- $_ := set .container "volumeMounts" (append (.container.volumeMounts | default list) .change.mount) -}}
{{- end -}}

{{- /* Changes the lists of a pod in place. Arguments: spec, change, mode. */ -}}
{{- define "attache.pod.lists" -}}
{{- $spec := .spec -}}
{{- $_ := set $spec "volumes" (concat ($spec.volumes | default list) .change.volumes) -}}
{{- $inits := concat (list .change.sidecar) ($spec.initContainers | default list) -}}
{{- if eq .mode "iptables" -}}{{- $inits = prepend $inits .change.redirect -}}{{- end -}}
{{- $_ := set $spec "initContainers" $inits -}}
{{- with .change.pullSecrets -}}{{- $_ := set $spec "imagePullSecrets" (concat ($spec.imagePullSecrets | default list) . | uniq) -}}{{- end -}}
{{- if eq .mode "hosts" -}}
  {{- $led := list -}}
  {{- range $spec.hostAliases -}}{{- $led = concat $led (.hostnames | default list) -}}{{- end -}}
  {{- $hosts := list -}}
  {{- range .change.hosts -}}{{- if not (has . $led) -}}{{- $hosts = append $hosts . -}}{{- end -}}{{- end -}}
  {{- with $hosts -}}
    {{- $_ := set $spec "hostAliases" (append ($spec.hostAliases | default list) (dict "ip" "127.0.0.1" "hostnames" .)) -}}
  {{- end -}}
  {{- $security := $spec.securityContext | default dict -}}
  {{- $set := false -}}
  {{- range $security.sysctls -}}{{- if eq .name $.change.sysctl.name -}}{{- $set = true -}}{{- end -}}{{- end -}}
  {{- if not $set -}}
    {{- $_ := set $security "sysctls" (append ($security.sysctls | default list) .change.sysctl) -}}
    {{- $_ := set $spec "securityContext" $security -}}
  {{- end -}}
{{- end -}}
{{- end -}}
