{{- define "batten.labels" -}}
app.kubernetes.io/name: batten
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "batten.selector" -}}
app.kubernetes.io/name: batten
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "batten.service" -}}
{{ .Release.Name }}-webhook
{{- end }}

{{- define "batten.certificate" -}}
{{ .Release.Name }}-webhook-certificate
{{- end }}

{{- /* Where the API server finds one path; the operator fills in the caBundle and keeps it. */ -}}
{{- define "batten.clientConfig" -}}
{{- if .root.Values.webhook.url -}}
url: {{ .root.Values.webhook.url }}{{ .path }}
{{- else -}}
service:
  name: {{ include "batten.service" .root }}
  namespace: {{ .root.Release.Namespace }}
  path: {{ .path }}
  port: 443
{{- end }}
{{- end }}

{{- /* By name, since nobody but the API server can set this label. */ -}}
{{- define "batten.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      {{- range concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.exemptNamespaces | uniq }}
      - {{ . }}
      {{- end }}
{{- end }}
