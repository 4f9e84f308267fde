{{- /*
The pod change as an admission policy: no webhook, no process of ours in the control plane.

Only JSON patches, which keep the order of lists, and one step for each missing thing, so that a pod that was changed
before, in part or in whole, comes out the same.
*/ -}}

{{- /* A value as CEL. Everything is `dyn`, as members of a map must otherwise have one type. */ -}}
{{- define "attache.cel" -}}
{{- if kindIs "map" . -}}
  {{- if hasKey . "$cel" -}}dyn({{ index . "$cel" }})
  {{- else -}}
    {{- $members := list -}}
    {{- range $key, $value := . -}}{{- $members = append $members (printf "%s: %s" (toJson $key) (include "attache.cel" $value)) -}}{{- end -}}
    dyn({ {{- join ", " $members -}} })
  {{- end -}}
{{- else if kindIs "slice" . -}}
  {{- $members := list -}}
  {{- range . -}}{{- $members = append $members (include "attache.cel" .) -}}{{- end -}}
  dyn([{{- join ", " $members -}}])
{{- else -}}dyn({{ toRawJson . }})
{{- end -}}
{{- end -}}

{{- /* The expressions of the policy, JSON array, in the order in which they apply. Arguments: a context. */ -}}
{{- define "attache.policy.mutations" -}}
{{- $change := include "attache.pod.change" (dict "root" . "cel" true) | fromJson -}}
{{- list
  (include "attache.policy.containers" (dict "change" $change "path" "containers" "list" "object.spec.containers"))
  (include "attache.policy.containers" (dict "change" $change "path" "initContainers" "list" "variables.inits"))
  (include "attache.policy.pod" $change)
  (include "attache.policy.sidecars" $change)
  | toJson -}}
{{- end -}}

{{- /* Environment and mount of the applications' containers. Arguments: change, path, list (CEL). */ -}}
{{- define "attache.policy.containers" -}}
{{- $path := printf "\"/spec/%s/\" + string(i) + " .path -}}
{{- $own := `!(c.name in ["attache", "attache-redirect"]) && (variables.only.size() == 0 || c.name in variables.only)` -}}
{{- $step := printf "%s.transformList(i, c, %s && %%s, JSONPatch{op: \"add\", path: %s\"%%s\", value: %%s})" .list $own $path -}}
{{- $steps := list (printf $step "!has(c.env)" "/env" "[]") (printf $step "!has(c.volumeMounts)" "/volumeMounts" "[]") -}}
{{- range .change.environment -}}
  {{- $absent := printf "!(has(c.env) && c.env.exists(e, e.name in %s))" (toJson .unless) -}}
  {{- if ne (len .modes) 3 -}}{{- $absent = printf "variables.mode in %s && %s" (toJson .modes) $absent -}}{{- end -}}
  {{- $steps = append $steps (printf $step $absent "/env/-" (printf "{\"name\": %s, \"value\": %s}" (toJson .name) (toJson .value))) -}}
{{- end -}}
{{- $mounted := printf "!(has(c.volumeMounts) && c.volumeMounts.exists(m, m.name == %s))" (toJson .change.mount.name) -}}
{{- $steps = append $steps (printf $step $mounted "/volumeMounts/-" (include "attache.cel" .change.mount)) -}}
{{- join " +\n" $steps -}}
{{- end -}}

{{- /* Arguments: the change. */ -}}
{{- define "attache.policy.pod" -}}
{{- $add := `(%s ? [JSONPatch{op: "add", path: %s, value: %s}] : [])` -}}
{{- $steps := list (printf $add "!has(object.spec.volumes)" `"/spec/volumes"` "[]") -}}
{{- range .volumes -}}
  {{- $absent := printf "!(has(object.spec.volumes) && object.spec.volumes.exists(v, v.name == %s))" (toJson .name) -}}
  {{- $steps = append $steps (printf $add $absent `"/spec/volumes/-"` (include "attache.cel" .)) -}}
{{- end -}}
{{- if .pullSecrets -}}
  {{- $steps = append $steps (printf $add "!has(object.spec.imagePullSecrets)" `"/spec/imagePullSecrets"` "[]") -}}
  {{- range .pullSecrets -}}
    {{- $absent := printf "!(has(object.spec.imagePullSecrets) && object.spec.imagePullSecrets.exists(s, s.name == %s))" (toJson .name) -}}
    {{- $steps = append $steps (printf $add $absent `"/spec/imagePullSecrets/-"` (include "attache.cel" .)) -}}
  {{- end -}}
{{- end -}}
{{- /* A name that the pod leads elsewhere itself stays where it leads. */ -}}
{{- $hosts := `variables.mode == "hosts" && variables.hosts.size() > 0` -}}
{{- $steps = append $steps (printf $add (printf "%s && !has(object.spec.hostAliases)" $hosts) `"/spec/hostAliases"` "[]") -}}
{{- $steps = append $steps (printf $add $hosts `"/spec/hostAliases/-"` `dyn({"ip": dyn("127.0.0.1"), "hostnames": dyn(variables.hosts)})`) -}}
{{- $sysctl := printf "variables.mode == \"hosts\" && !(has(object.spec.securityContext) && has(object.spec.securityContext.sysctls) && object.spec.securityContext.sysctls.exists(s, s.name == %s))" (toJson .sysctl.name) -}}
{{- $steps = append $steps (printf $add (printf "%s && !has(object.spec.securityContext)" $sysctl) `"/spec/securityContext"` "{}") -}}
{{- $steps = append $steps (printf $add (printf "%s && !(has(object.spec.securityContext) && has(object.spec.securityContext.sysctls))" $sysctl) `"/spec/securityContext/sysctls"` "[]") -}}
{{- $steps = append $steps (printf $add $sysctl `"/spec/securityContext/sysctls/-"` (include "attache.cel" .sysctl)) -}}
{{- join " +\n" $steps -}}
{{- end -}}

{{- /* The sidecar, before the application's own init containers; before it, the redirection. Arguments: the change. */ -}}
{{- define "attache.policy.sidecars" -}}
{{- $add := `(%s ? [JSONPatch{op: "add", path: "/spec/initContainers%s", value: %s}] : [])` -}}
{{- $absent := `!variables.inits.exists(c, c.name == %s)` -}}
{{- list
  (printf $add "!has(object.spec.initContainers)" "" "[]")
  (printf $add (printf $absent (toJson .sidecar.name)) "/0" (include "attache.cel" .sidecar))
  (printf $add (printf "variables.mode == \"iptables\" && %s" (printf $absent (toJson .redirect.name))) "/0" (include "attache.cel" .redirect))
  | join " +\n" -}}
{{- end -}}

{{- /* What the expressions share, JSON array of name and expression. Arguments: a context. */ -}}
{{- define "attache.policy.variables" -}}
{{- $default := toJson .Values.interception.mode -}}
{{- /* Another word than these is refused by the second policy, in words. */ -}}
{{- $mode := printf `"attache/mode" in variables.notes && variables.notes["attache/mode"] in ["hosts", "iptables", "baseUrl"] ? variables.notes["attache/mode"] : %s` $default -}}
{{- $split := `"%s" in variables.notes ? variables.notes["%s"].split(",").map(one, one.trim()).filter(one, one != "") : %s` -}}
{{- $led := `has(object.spec.hostAliases) && object.spec.hostAliases.exists(a, has(a.hostnames) && host in a.hostnames)` -}}
{{- list
  (dict "name" "notes" "expression" `has(object.metadata.annotations) ? object.metadata.annotations : {}`)
  (dict "name" "mode" "expression" $mode)
  (dict "name" "only" "expression" (printf $split "attache/containers" "attache/containers" "[]"))
  (dict "name" "labels" "expression" (printf $split "attache/labels" "attache/labels" (toJson .Values.sidecar.labels)))
  (dict "name" "inits" "expression" `has(object.spec.initContainers) ? object.spec.initContainers : []`)
  (dict "name" "hosts" "expression" (printf "%s.filter(host, !(%s))" (include "attache.sidecar.aliases" .) $led))
  | toJson -}}
{{- end -}}

{{- /* Which requests concern the policies: new pods of the namespaces, but for those that opted out. */ -}}
{{- define "attache.policy.constraints" -}}
resourceRules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
namespaceSelector:
  matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: In, values: {{ include "attache.namespaces" . }}}
objectSelector:
  matchExpressions:
    - {key: attache/inject, operator: NotIn, values: ["false"]}
{{- end -}}

{{- /* What no selector can tell. */ -}}
{{- define "attache.policy.conditions" -}}
- name: not-opted-out
  expression: >-
    !has(object.metadata.annotations) || !("attache/inject" in object.metadata.annotations) || object.metadata.annotations["attache/inject"] != "false"
- name: own-network
  expression: "!has(object.spec.hostNetwork) || !object.spec.hostNetwork"
- name: not-windows
  expression: '!has(object.spec.os) || object.spec.os.name != "windows"'
- name: no-windows-node
  expression: >-
    !has(object.spec.nodeSelector) || !("kubernetes.io/os" in object.spec.nodeSelector) || object.spec.nodeSelector["kubernetes.io/os"] != "windows"
# Half of one release's and half of another's would be neither.
- name: not-of-another-release
  expression: >-
    !has(object.spec.volumes) ||
    !object.spec.volumes.exists(v, v.name == "attache-config" && !(has(v.configMap) && has(v.configMap.name) && v.configMap.name == {{ toJson .Release.Name }}))
{{- end -}}

{{- /* No container of the application's has a name of ours, CEL. The sidecar, if the pod has been changed before, mounts what no other does. */ -}}
{{- define "attache.policy.names" -}}
!object.spec.containers.exists(c, c.name in ["attache", "attache-redirect"]) &&
(!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name in ["attache", "attache-redirect"] &&
!(has(c.volumeMounts) && c.volumeMounts.exists(m, m.name == "attache-config"))))
{{- end -}}

{{- /* Who opted in: pods by their label, and all pods of a namespace by its. One binding for each. JSON array. */ -}}
{{- define "attache.policy.bindings" -}}
{{- $label := dict "matchLabels" (dict "attache/inject" "true") -}}
{{- list
  (dict "suffix" "pods" "select" (dict "objectSelector" $label))
  (dict "suffix" "namespaces" "select" (dict "namespaceSelector" $label))
  | toJson -}}
{{- end -}}
