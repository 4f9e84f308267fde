{{- /* secret-NAME.yaml: one key, from its file. Envoy takes one secret from one file. */ -}}

{{- /* Arguments: values, name (a cluster: the provider, or provider.key). */ -}}
{{- define "attache.secret" -}}
resources:
  - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
    name: {{ .name | quote }}
    generic_secret:
      secret:
        filename: {{ printf "%s/%s" .values.paths.keys .name | quote }}
        watched_directory:
          path: {{ .values.paths.keys | quote }}
{{- end -}}
