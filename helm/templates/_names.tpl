{{- /* Names and versions that several templates share. Arguments: a context. */ -}}

{{- define "attache.labels" -}}
app.kubernetes.io/name: attache
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* Meshes whose proxies are ordinary containers would keep a Job from its end. Istio's label, Linkerd's annotation. JSON. */ -}}
{{- define "attache.unmeshed" -}}
{{- dict "label" (dict "sidecar.istio.io/inject" "false") "annotation" (dict "linkerd.io/inject" "disabled") | toJson -}}
{{- end -}}

{{- /* The admission policies', which are the cluster's: no two releases share one, as a namespace's name has no dot. */ -}}
{{- define "attache.policy.name" -}}
{{- printf "attache-%s.%s" .Release.Namespace .Release.Name -}}
{{- end -}}

{{- /* The hook's, which names a pod's label too: at most 63 letters, and a release's name may have 53. */ -}}
{{- define "attache.validation.name" -}}
{{- printf "%s-validate" .Release.Name | quote -}}
{{- end -}}

{{- /* The modes of interception that there are, JSON array. The variables of `baseUrl` lead to plain HTTP. Arguments: a context. */ -}}
{{- define "attache.modes" -}}
{{- $modes := list "hosts" "iptables" -}}
{{- if not .Values.listener.transportSocket -}}{{- $modes = append $modes "baseUrl" -}}{{- end -}}
{{- toJson $modes -}}
{{- end -}}

{{- /* A quantity of Kubernetes in bytes, as a decimal number. Arguments: the quantity. */ -}}
{{- define "attache.quantity" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "(m|k|[KMGTPE]i?)$" $text -}}
{{- $power := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $power $unit) -}}
{{- end -}}

{{- /* The namespaces that the release serves, JSON array; a pod mounts only what lies in its own. */ -}}
{{- define "attache.namespaces" -}}
{{- .Values.injection.namespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{- /* The one of them in which `helm test` makes its pod: the release's own, if it is one. */ -}}
{{- define "attache.namespace" -}}
{{- $served := include "attache.namespaces" . | fromJsonArray -}}
{{- ternary .Release.Namespace (first $served) (has .Release.Namespace $served) -}}
{{- end -}}

{{- /* What a container beside the sidecar may use, YAML; of processor time as much as the sidecar, where that has a limit, as quotas ask for one. Arguments: root, cpu and memory (requests), most (memory). */ -}}
{{- define "attache.resources" -}}
{{- $limits := dict "memory" .most -}}
{{- $cpu := .cpu -}}
{{- with get (.root.Values.sidecar.resources.limits | default dict) "cpu" -}}
  {{- $_ := set $limits "cpu" . -}}
  {{- if lt (include "attache.quantity" . | float64) (include "attache.quantity" $cpu | float64) -}}{{- $cpu = . -}}{{- end -}}
{{- end -}}
{{- dict "requests" (dict "cpu" $cpu "memory" .memory) "limits" $limits | toYaml -}}
{{- end -}}

{{- /* The version in which the cluster serves admission policies, or nothing. */ -}}
{{- define "attache.policy.version" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}v1beta1
{{- end -}}
{{- end -}}
