{{- /* `helm test`: a pod like any other asks a provider, without a body, so that the sidecar answers and nothing is spent. Arguments: a context. */ -}}
{{- define "attache.test.pod" -}}
{{- $hosts := include "attache.sidecar.aliases" . | fromJsonArray -}}
{{- $direct := or (eq .Values.interception.mode "baseUrl") (not $hosts) -}}
{{- $unmeshed := include "attache.unmeshed" . | fromJson -}}
metadata:
  annotations:
    {{- toYaml $unmeshed.annotation | nindent 4 }}
  labels:
    attache/inject: "true"
    {{- toYaml $unmeshed.label | nindent 4 }}
    {{- include "attache.labels" . | nindent 4 }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
    - name: test
      image: {{ .Values.test.image | quote }}
      imagePullPolicy: {{ .Values.test.pullPolicy }}
      command:
        - sh
        - -c
        - |
          url={{ ternary (printf "http://127.0.0.1:%d" (int .Values.listener.port)) (printf "https://%s" (first ($hosts | default (list "")))) $direct }}/v1/chat/completions
          answer=$(curl --silent --show-error --max-time 30 --request POST "$url" 2>&1)
          case "$answer" in
            *empty_body*) echo "$url: answered by the sidecar" ;;
            *) echo "$url: not answered by the sidecar: $answer"; exit 1 ;;
          esac
      resources:
        {{- include "attache.resources" (dict "root" . "cpu" "10m" "memory" "16Mi" "most" "64Mi") | nindent 8 }}
      securityContext:
        runAsUser: 65534
        runAsNonRoot: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
        seccompProfile: {type: RuntimeDefault}
{{- end -}}
