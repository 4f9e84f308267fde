{{- /* Certificates: an authority of the release's own, with which the sidecar answers for the providers' names. */ -}}

{{- /* The Secret that new pods mount: of the current generation, so that a rotation leaves running pods alone. */ -}}
{{- define "attache.trust.secret" -}}
{{- .Values.trust.secret | default (printf "%s-tls-%d" .Release.Name (int .Values.trust.generation)) -}}
{{- end -}}

{{- /*
JSON array of {generation, authority: {Cert, Key}, server: {Cert, Key}}: this generation and, as long as it is there, the one
before. What the cluster has is kept. A rendering makes new ones each time it is asked, so it is asked once.
*/ -}}
{{- define "attache.trust.generations" -}}
{{- $now := int .Values.trust.generation -}}
{{- $hosts := include "attache.sidecar.hosts" . | fromJsonArray -}}
{{- $found := list -}}
{{- range $generation := list (sub $now 1 | int) $now -}}
  {{- $kept := lookup "v1" "Secret" $.Release.Namespace (printf "%s-ca-%d" $.Release.Name $generation) -}}
  {{- if or $kept (eq $generation $now) -}}
    {{- $authority := dict -}}
    {{- if $kept -}}
      {{- $authority = buildCustomCert (get $kept.data "tls.crt") (get $kept.data "tls.key") -}}
    {{- else -}}
      {{- $authority = genCA (printf "Attache %s/%s %d" $.Release.Namespace $.Release.Name $generation) 3650 -}}
    {{- end -}}
    {{- /* The same names under the same authority: the certificate stays, and no sidecar reads a new one. */ -}}
    {{- $names := join "," (append $hosts $authority.Cert) | sha256sum -}}
    {{- $server := dict -}}
    {{- $old := lookup "v1" "Secret" (include "attache.namespace" $) (printf "%s-tls-%d" $.Release.Name $generation) -}}
    {{- if and $old (eq (get ($old.metadata.annotations | default dict) "attache/names") $names) -}}
      {{- $server = dict "Cert" (get $old.data "tls.crt" | b64dec) "Key" (get $old.data "tls.key" | b64dec) -}}
    {{- else -}}
      {{- $signed := genSignedCert "attache" nil $hosts 3650 $authority -}}
      {{- $server = dict "Cert" $signed.Cert "Key" $signed.Key -}}
    {{- end -}}
    {{- $found = append $found (dict "generation" $generation "names" $names "authority" (dict "Cert" $authority.Cert "Key" $authority.Key) "server" $server) -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
