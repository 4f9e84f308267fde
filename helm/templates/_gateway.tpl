{{- /* gateway.yaml: the filter in the listener, with its configuration. Envoy reloads it when a file is renamed over it. */ -}}
{{- define "attache.gateway" -}}
resources:
  - "@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig
    name: attache
    typed_config:
      {{- /* What Envoy buffers, so that the filter can name it. */ -}}
      {{- $limits := dict "body" (int64 .Values.bufferLimitBytes) "replay" (int64 .Values.replayLimitBytes) "queue" (mul 1000 (int64 .Values.queueLimitSeconds)) }}
      {{- $configuration := dict "role" "gateway" "limits" $limits "gateway" .Values.gateway }}
      {{- include "attache.wasm" (dict "values" .Values "configuration" $configuration) | nindent 6 }}
{{- end -}}
