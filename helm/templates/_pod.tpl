{{- /*
What becomes of a pod: one description, of which the admission policy (_policy.tpl) and `attache.pod` (_pod_template.tpl)
are made.

A value that is only known when a pod comes is `{"$cel": EXPRESSION}` for the policy, and the value itself for a template.
*/ -}}

{{- /*
JSON: sidecar, redirect (containers), volumes, mount (the applications'), environment (the applications': name, value, modes,
unless: names any of which keeps it away), hosts, sysctl, pullSecrets, modes.
Arguments: root (a context), cel (whether for the policy), notes (the pod's annotations, unless for the policy).
*/ -}}
{{- define "attache.pod.change" -}}
{{- $values := .root.Values -}}
{{- $name := .root.Release.Name -}}
{{- $volumes := list
  (dict "name" "attache-config" "configMap" (dict "name" $name))
  (dict "name" "attache-keys" "secret" (dict "secretName" $values.keys.secret "optional" true))
  (dict "name" "attache-tls" "secret" (dict "secretName" (include "attache.trust.secret" .root)))
  (dict "name" "attache-trust" "configMap" (dict "name" (printf "%s-trust" $name)))
  (dict "name" "attache-run" "emptyDir" (dict "medium" "Memory" "sizeLimit" "1Mi"))
  (dict "name" "attache-empty" "emptyDir" (dict "medium" "Memory" "sizeLimit" "1Mi")) -}}
{{- $change := dict
  "sidecar" (include "attache.pod.sidecar" . | fromJson)
  "redirect" (include "attache.pod.redirect" .root | fromYaml)
  "volumes" $volumes
  "mount" (dict "name" "attache-trust" "mountPath" "/etc/attache-trust" "readOnly" true)
  "environment" (include "attache.pod.environment" .root | fromJsonArray)
  "hosts" (include "attache.sidecar.aliases" .root | fromJsonArray)
  "sysctl" (dict "name" "net.ipv4.ip_unprivileged_port_start" "value" "0")
  "pullSecrets" $values.sidecar.pullSecrets -}}
{{- toJson $change -}}
{{- end -}}

{{- define "attache.pod.image" -}}
{{- with .Values.sidecar.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Arguments: as attache.pod.change. */ -}}
{{- define "attache.pod.sidecar" -}}
{{- $container := include "attache.pod.container" .root | fromYaml -}}
{{- $default := .root.Values.interception.mode -}}
{{- $path := "/etc/attache/envoy-%s.json" -}}
{{- $config := ternary (dict "$cel" "\"/etc/attache/envoy-\" + variables.mode + \".json\"") (printf $path (get (.notes | default dict) "attache/mode" | default $default)) .cel -}}
{{- $_ := set $container "args" (concat (list "--config-path" $config) $container.args) -}}
{{- $_ := set $container "env" (include "attache.pod.identity" . | fromJson).env -}}
{{- range $part := list "requests" "limits" -}}
  {{- range $resource := list "cpu" "memory" -}}
    {{- $given := get (get $container.resources $part | default dict) $resource -}}
    {{- if and $given (or (eq $resource "memory") (eq $part "requests")) -}}
      {{- $note := include "attache.pod.note" (merge (dict "key" (printf "attache/%s" $resource) "default" (toString $given)) $) | fromJson -}}
      {{- $_ := set (get $container.resources $part) $resource $note.value -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $container -}}
{{- end -}}

{{- /* JSON {"value": …}: what the pod's annotation says, else the default. Arguments: cel, notes, key, default. */ -}}
{{- define "attache.pod.note" -}}
{{- $key := toJson .key -}}
{{- $expression := printf "%s in variables.notes ? variables.notes[%s] : %s" $key $key (toJson .default) -}}
{{- dict "value" (ternary (dict "$cel" $expression) (get (.notes | default dict) .key | default .default) .cel) | toJson -}}
{{- end -}}

{{- define "attache.pod.container" -}}
name: attache
image: {{ include "attache.pod.image" . | quote }}
imagePullPolicy: {{ .Values.sidecar.image.pullPolicy }}
# A sidecar: started before everything else, ended after it, and no Job waits for it.
restartPolicy: Always
args:
  - --concurrency
  - {{ .Values.concurrency | toString | quote }}
  - --disable-hot-restart
  - --log-level
  - {{ .Values.sidecar.logLevel | quote }}
  - --component-log-level
  - wasm:info
ports:
  - {name: attache-status, containerPort: {{ .Values.sidecar.status.port }}, protocol: TCP}
startupProbe:
  httpGet: {path: /ready, port: attache-status}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /ready, port: attache-status}
  periodSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml .Values.sidecar.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  runAsUser: 1337
  runAsGroup: 1337
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: attache-config, mountPath: /etc/attache, readOnly: true}
  - {name: attache-keys, mountPath: /etc/attache-keys, readOnly: true}
  - {name: attache-tls, mountPath: /etc/attache-tls, readOnly: true}
  # The pod's own would send the providers' names back to the sidecar.
  - {name: attache-config, mountPath: /etc/hosts, subPath: hosts, readOnly: true}
  - {name: attache-run, mountPath: /run/attache}
  # Where something is mounted already, Kubernetes mounts no service-account token.
  - {name: attache-empty, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- /* Who the pod is, from what Kubernetes knows of it. JSON {"env": …}. Arguments: as attache.pod.change. */ -}}
{{- define "attache.pod.identity" -}}
{{- $own := list
  (dict "name" "ATTACHE_NAMESPACE" "valueFrom" (dict "fieldRef" (dict "apiVersion" "v1" "fieldPath" "metadata.namespace")))
  (dict "name" "ATTACHE_SERVICE_ACCOUNT" "valueFrom" (dict "fieldRef" (dict "apiVersion" "v1" "fieldPath" "spec.serviceAccountName")))
  (dict "name" "ATTACHE_DELIVERY" "value" (include "attache.pod.note" (merge (dict "key" "attache/delivery" "default" "") .) | fromJson).value) -}}
{{- if .cel -}}
  {{- $labels := `variables.labels.transformList(i, label, dyn({"name": dyn("ATTACHE_LABEL_" + string(i)), "valueFrom": dyn({"fieldRef": dyn({"apiVersion": dyn("v1"), "fieldPath": dyn("metadata.labels['" + label + "']")})})}))` -}}
  {{- $all := `variables.labels.transformList(i, label, label + "=$(ATTACHE_LABEL_" + string(i) + ")").join(",")` -}}
  {{- $last := dict "name" "ATTACHE_LABELS" "value" (dict "$cel" $all) -}}
  {{- dict "env" (dict "$cel" (printf "%s + %s + [%s]" (include "attache.cel" $own) $labels (include "attache.cel" $last))) | toJson -}}
{{- else -}}
  {{- $labels := .root.Values.sidecar.labels -}}
  {{- with get (.notes | default dict) "attache/labels" -}}
    {{- $labels = list -}}
    {{- range splitList "," . -}}{{- with trim . -}}{{- $labels = append $labels . -}}{{- end -}}{{- end -}}
  {{- end -}}
  {{- $all := list -}}
  {{- range $i, $label := $labels -}}
    {{- $field := dict "fieldRef" (dict "apiVersion" "v1" "fieldPath" (printf "metadata.labels['%s']" $label)) -}}
    {{- $own = append $own (dict "name" (printf "ATTACHE_LABEL_%d" $i) "valueFrom" $field) -}}
    {{- $all = append $all (printf "%s=$(ATTACHE_LABEL_%d)" $label $i) -}}
  {{- end -}}
  {{- dict "env" (append $own (dict "name" "ATTACHE_LABELS" "value" (join "," $all))) | toJson -}}
{{- end -}}
{{- end -}}

{{- /* `iptables` alone needs it, and the capability. */ -}}
{{- define "attache.pod.redirect" -}}
name: attache-redirect
image: {{ include "attache.pod.image" . | quote }}
imagePullPolicy: {{ .Values.sidecar.image.pullPolicy }}
command: [/usr/sbin/nft, -f, /etc/attache/redirect.nft]
resources:
  {{- include "attache.resources" (dict "root" . "cpu" "10m" "memory" "16Mi" "most" "64Mi") | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  runAsUser: 0
  runAsGroup: 0
  runAsNonRoot: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: attache-config, mountPath: /etc/attache, readOnly: true}
  - {name: attache-empty, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- /* JSON array. */ -}}
{{- define "attache.pod.environment" -}}
{{- $table := .Files.Get "files/environment.json" | fromJson -}}
{{- $tls := list "hosts" "iptables" -}}
{{- $found := list -}}
{{- range $file, $names := $table.trust -}}
  {{- range $names -}}
    {{- $found = append $found (dict "name" . "value" (printf "/etc/attache-trust/%s" $file) "modes" $tls "unless" (list .)) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.trust.java -}}
  {{- range $name, $value := $table.java -}}
    {{- $found = append $found (dict "name" $name "value" $value "modes" $tls "unless" (list $name)) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $path := $table.baseUrls -}}
  {{- $found = append $found (dict "name" $name "value" (printf "http://127.0.0.1:%d%s" (int $.Values.listener.port) $path) "modes" (list "baseUrl") "unless" (list $name)) -}}
{{- end -}}
{{- if .Values.interception.placeholders -}}
  {{- $rows := list -}}
  {{- range .Values.gateway.providers -}}
    {{- if ne (.credentials | default "inject") "passthrough" -}}{{- $rows = append $rows (.provider | default .name) -}}{{- end -}}
  {{- end -}}
  {{- range $row := uniq $rows -}}
    {{- range $name, $others := get $table.keys $row | default dict -}}
      {{- $found = append $found (dict "name" $name "value" "attache-puts-the-key" "modes" (concat $tls (list "baseUrl")) "unless" (prepend $others $name)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
