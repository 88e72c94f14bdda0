{{- define "batten.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "batten.instanceLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "batten.selectorLabels" -}}
{{ include "batten.instanceLabels" . }}
app.kubernetes.io/component: webhook
{{- end -}}

{{/* Whom the controller acts as: an operator outside the cluster is webhook and controller in one. */}}
{{- define "batten.controller" -}}
{{- include "batten.fullname" . }}{{ if not .Values.webhook.url }}-controller{{ end }}
{{- end -}}

{{- define "batten.labels" -}}
{{ include "batten.instanceLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "batten.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* What is the same in every webhook, and in all but one which namespaces are left alone. */}}
{{- define "batten.webhook" -}}
{{ include "batten.client" . }}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
        {{- $always := list "kube-system" "kube-public" "kube-node-lease" .root.Release.Namespace }}
        {{- concat $always .root.Values.webhook.exemptNamespaces | uniq | toYaml | nindent 8 }}
{{- end -}}

{{/* The Secret that somebody else keeps the certificate in; empty where the operator issues it. */}}
{{- define "batten.certificateSecret" -}}
{{- if .Values.certificate.certManager.enabled -}}
{{- include "batten.fullname" . }}-webhook-tls
{{- else -}}
{{- .Values.certificate.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Zones are preferred only: a constraint on them leaves out every node that names none, and then the
constraint on nodes does, too. Takes a dict of root and component. */}}
{{- define "batten.zones" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "batten.instanceLabels" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component }}
        matchLabelKeys: [pod-template-hash]
{{- end -}}

{{/* By what others know that they are to put the caBundle into a configuration. */}}
{{- define "batten.webhookAnnotations" -}}
{{- $injected := dict -}}
{{- if .Values.certificate.certManager.enabled -}}
{{- $_ := printf "%s/%s-webhook" .Release.Namespace (include "batten.fullname" .) | set $injected "cert-manager.io/inject-ca-from" -}}
{{- end -}}
{{- with merge $injected .Values.webhook.annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Hours of a duration such as `90d` or `30m`. */}}
{{- define "batten.hours" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- divf (mulf $number (get (dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1) $unit)) 3600000 -}}
{{- end -}}

{{/* How the API server calls us. Without a caBundle: the operator or cert-manager keeps it, and an
upgrade that does not speak of it leaves it as it is. Takes a dict of root, path and failurePolicy. */}}
{{- define "batten.client" -}}
clientConfig:
  {{- with .root.Values.webhook.url }}
  url: {{ printf "%s%s" (trimSuffix "/" .) $.path }}
  {{- else }}
  service:
    name: {{ include "batten.fullname" .root }}-webhook
    namespace: {{ .root.Release.Namespace }}
    path: {{ .path }}
    port: 443
  {{- end }}
  {{- with .root.Values.certificate.caBundle }}
  caBundle: {{ b64enc . }}
  {{- end }}
admissionReviewVersions: [v1]
{{- /* A refusal is told of in an Event, that of a dry run is not. */}}
sideEffects: {{ eq .path "/validate" | ternary "NoneOnDryRun" "None" }}
matchPolicy: Equivalent
failurePolicy: {{ .failurePolicy }}
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
{{- end -}}

{{/* A Pod's status changes all the time, its spec hardly ever: the API server need not ask. */}}
{{- define "batten.specChanged" -}}
- name: spec-changed
  expression: request.operation != 'UPDATE' || object.spec != oldObject.spec
{{- end -}}

{{/* To ask registries as the kubelet does, who reads what a Pod or its ServiceAccount names. */}}
{{- define "batten.pullSecrets" -}}
{{- if .Values.images.pullSecrets -}}
- apiGroups: [""]
  resources: [secrets, serviceaccounts]
  verbs: [get]
{{- end -}}
{{- end -}}
