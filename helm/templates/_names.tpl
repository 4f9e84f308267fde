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

{{- /* The namespaces that the release serves, JSON array; a pod mounts only what lies in its own. */ -}}
{{- define "attache.namespaces" -}}
{{- .Values.injection.namespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{- /* The one of them in which `helm test` makes its pod: the release's own, if it is one. */ -}}
{{- define "attache.namespace" -}}
{{- $served := include "attache.namespaces" . | fromJsonArray -}}
{{- ternary .Release.Namespace (first $served) (has .Release.Namespace $served) -}}
{{- end -}}

{{- /* The version in which the cluster serves admission policies, or nothing. */ -}}
{{- define "attache.policy.version" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}v1beta1
{{- end -}}
{{- end -}}
