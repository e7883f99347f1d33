{{/* The scaler's files: what is mounted, and where it comes from. */}}
{{- define "cloudpulse.scaler.mounts" -}}
{{- with .Values.scaler -}}
{{- $external := .externalMetrics -}}
{{- if and $external.enabled $external.config }}
- {name: config, mountPath: /etc/cloudpulse/scaler, readOnly: true}
{{- end }}
{{- if and $external.enabled $external.tlsSecret }}
- {name: tls, mountPath: /etc/cloudpulse/tls, readOnly: true}
{{- end }}
{{- if and $external.enabled $external.delegate.url }}
- {name: delegate, mountPath: /etc/cloudpulse/delegate, readOnly: true}
{{- end }}
{{- if .apiToken.existingSecret }}
- {name: api-token, mountPath: /etc/cloudpulse/api-token, readOnly: true}
{{- end }}
{{- with include "cloudpulse.prometheus.mounts" $ | trim }}{{ . | nindent 0 }}{{ end }}
{{- with include "cloudpulse.web.mounts" $ | trim }}{{ . | nindent 0 }}{{ end }}
{{- with .extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "cloudpulse.scaler.volumes" -}}
{{- with .Values.scaler -}}
{{- $external := .externalMetrics -}}
{{- $name := include "cloudpulse.name" (list $ "scaler") -}}
{{- if and $external.enabled $external.config }}
- name: config
  configMap: {name: {{ $name }}}
{{- end }}
{{- if and $external.enabled $external.tlsSecret }}
- name: tls
  secret: {secretName: {{ $external.tlsSecret }}}
{{- end }}
{{- if and $external.enabled $external.delegate.url }}
- name: delegate
  secret: {secretName: {{ $external.delegate.caSecret }}, items: [{key: {{ $external.delegate.caKey }}, path: ca.crt}]}
{{- end }}
{{- if .apiToken.existingSecret }}
- name: api-token
  secret: {secretName: {{ .apiToken.existingSecret }}, items: [{key: {{ .apiToken.key }}, path: token}]}
{{- end }}
{{- with include "cloudpulse.prometheus.volumes" $ | trim }}{{ . | nindent 0 }}{{ end }}
{{- with include "cloudpulse.web.volumes" $ | trim }}{{ . | nindent 0 }}{{ end }}
{{- with .extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
{{- end -}}
