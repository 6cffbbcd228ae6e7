{{- define "zopp.name" -}}
{{- if contains "zopp" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-zopp" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- define "zopp.selector" -}}
app.kubernetes.io/name: zopp
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "zopp.labels" -}}
{{ include "zopp.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "zopp.image" -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end }}

{{- define "zopp.host" -}}
{{ .Values.origin | trimPrefix "https://" | regexFind "^[^:]+" }}
{{- end }}

{{- define "zopp.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "zopp.container" -}}
image: {{ include "zopp.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "zopp.probe" -}}
{{- if .root.Values.tls.clientCA.existingSecret -}}
tcpSocket: {port: api}  # a kubelet has no certificate of the client CA
{{- else -}}
httpGet: {path: {{ .path }}, port: api, scheme: {{ .root.Values.tls.existingSecret | empty | ternary "HTTP" "HTTPS" }}}
{{- end -}}
{{- end }}

{{- define "zopp.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  {{- with .Values.networkPolicy.dns }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    - {port: {{ .Values.networkPolicy.databasePort }}, protocol: TCP}
  to: {{- toYaml (required "networkPolicy.database: name the database's peers, or set networkPolicy.enabled to false" (.Values.networkPolicy.database | empty | ternary nil .Values.networkPolicy.database)) | nindent 4 }}
{{- end }}
