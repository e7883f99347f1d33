{{- define "cloudpulse.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The helpers below take (list . "scaler"): the root, and which of the three programs. */}}
{{- define "cloudpulse.name" -}}
{{- printf "%s-%s" (include "cloudpulse.fullname" (first .)) (last .) -}}
{{- end -}}

{{- define "cloudpulse.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "cloudpulse.labels" -}}
{{- $root := first . -}}
{{ include "cloudpulse.selector" . }}
app.kubernetes.io/part-of: cloudpulse
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cloudpulse.serviceAccount" -}}
{{- $account := (get (first .).Values (last .)).serviceAccount -}}
{{- if $account.name -}}{{ $account.name }}
{{- else if $account.create -}}{{ include "cloudpulse.name" . }}
{{- else -}}default
{{- end -}}
{{- end -}}

{{- define "cloudpulse.image" -}}
{{- $root := first . -}}
{{- $image := (get $root.Values (last .)).image -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* What the level "restricted" of the Pod Security Standards asks for, and a read-only root. */}}
{{- define "cloudpulse.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "cloudpulse.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "cloudpulse.podMetadata" -}}
{{- $root := first . -}}
{{- $values := get $root.Values (last .) -}}
labels:
  {{- include "cloudpulse.selector" . | nindent 2 }}
  {{- range $labels := list $root.Values.commonLabels $values.podLabels }}
  {{- with $labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "cloudpulse.scrapeAnnotations" -}}
{{- if (first .).Values.monitoring.annotations }}
prometheus.io/scrape: "true"
{{- if eq (include "cloudpulse.scheme" (first .)) "https" }}
prometheus.io/scheme: https
{{- end }}
prometheus.io/path: /metrics
prometheus.io/port: {{ last . | quote }}
{{- end }}
{{- end -}}

{{- define "cloudpulse.scheduling" -}}
{{- $root := first . -}}
{{- $values := get $root.Values (last .) -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if hasKey $values "topologySpreadConstraints" }}
topologySpreadConstraints:
  {{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cloudpulse.selector" . | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The scheme of the programs' pages, given the root. */}}
{{- define "cloudpulse.scheme" -}}
{{- with .Values.webConfig }}{{ ternary "https" "http" (and (not (empty .existingSecret)) .tls) }}{{ end -}}
{{- end -}}

{{/* Given the root: the web config file's argument, mount and volume, where there is one. */}}
{{- define "cloudpulse.web.args" -}}
{{- if .Values.webConfig.existingSecret }}
- --web.config.file=/etc/cloudpulse/web/{{ .Values.webConfig.key }}
{{- end }}
{{- end -}}

{{- define "cloudpulse.web.mounts" -}}
{{- if .Values.webConfig.existingSecret }}
- {name: web, mountPath: /etc/cloudpulse/web, readOnly: true}
{{- end }}
{{- end -}}

{{- define "cloudpulse.web.volumes" -}}
{{- with .Values.webConfig.existingSecret }}
- name: web
  secret: {secretName: {{ . }}}
{{- end }}
{{- end -}}

{{- define "cloudpulse.probes" -}}
{{- $root := first . -}}
{{- $how := "port: http" -}}
{{- if eq (include "cloudpulse.scheme" $root) "https" }}{{ $how = printf "%s, scheme: HTTPS" $how }}{{ end -}}
{{- with $root.Values.webConfig }}
{{- if and .existingSecret .probeHeaders }}{{ $how = printf "%s, httpHeaders: %s" $how (toJson .probeHeaders) }}{{ end -}}
{{- end -}}
livenessProbe:
  httpGet: {path: /healthz, {{ $how }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, {{ $how }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}
