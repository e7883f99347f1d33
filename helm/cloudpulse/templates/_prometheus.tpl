{{/* How predictor, scaler and the test get in at Prometheus: files from Secrets, and the flags that name them. */}}
{{- define "cloudpulse.prometheus.check" -}}
{{- with .Values.prometheus -}}
{{- if and .basicAuth.existingSecret (not .basicAuth.username) }}{{ fail "prometheus.basicAuth.username is missing: prometheus.basicAuth.existingSecret has the password of a user" }}{{ end -}}
{{- if and .basicAuth.existingSecret .bearerToken.existingSecret }}{{ fail "prometheus.basicAuth.existingSecret and prometheus.bearerToken.existingSecret exclude each other: take one of them" }}{{ end -}}
{{- if and .ca.existingSecret .ca.existingConfigMap }}{{ fail "prometheus.ca.existingSecret and prometheus.ca.existingConfigMap exclude each other: take one of them" }}{{ end -}}
{{- range $name, $value := .headers }}{{ if contains "," $value }}{{ fail (printf "prometheus.headers.%s: a comma cannot be passed on to the scaler" $name) }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "cloudpulse.prometheus.args" -}}
- --prometheus={{ .Values.prometheus.url }}
{{- range $name, $value := .Values.prometheus.headers }}
- {{ printf "--header=%s=%s" $name $value | quote }}
{{- end }}
{{- with .Values.prometheus.basicAuth }}
{{- if .existingSecret }}
- {{ printf "--username=%s" .username | quote }}
- --password-file=/etc/cloudpulse/prometheus/password
{{- end }}
{{- end }}
{{- if .Values.prometheus.bearerToken.existingSecret }}
- --bearer-token-file=/etc/cloudpulse/prometheus/token
{{- end }}
{{- end -}}

{{- define "cloudpulse.prometheus.config" -}}
{{- $prometheus := dict "url" .Values.prometheus.url -}}
{{- with .Values.prometheus -}}
{{- if .headers }}{{ $_ := set $prometheus "headers" .headers }}{{ end -}}
{{- if .params }}{{ $_ := set $prometheus "params" .params }}{{ end -}}
{{- if .queryOffset }}{{ $_ := set $prometheus "query_offset" .queryOffset }}{{ end -}}
{{- if .basicAuth.existingSecret }}{{ $_ := set $prometheus "basic_auth" (dict "username" .basicAuth.username "password_file" "/etc/cloudpulse/prometheus/password") }}{{ end -}}
{{- if .bearerToken.existingSecret }}{{ $_ := set $prometheus "bearer_token_file" "/etc/cloudpulse/prometheus/token" }}{{ end -}}
{{- end -}}
{{- toYaml $prometheus -}}
{{- end -}}

{{- define "cloudpulse.prometheus.env" -}}
{{- with .Values.prometheus.ca }}
{{- if or .existingSecret .existingConfigMap }}
- name: SSL_CERT_FILE
  value: /etc/cloudpulse/prometheus-ca/ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- define "cloudpulse.prometheus.volumes" -}}
{{- $basic := .Values.prometheus.basicAuth -}}
{{- $bearer := .Values.prometheus.bearerToken -}}
{{- $ca := .Values.prometheus.ca -}}
{{- if or $basic.existingSecret $bearer.existingSecret }}
- name: prometheus
  secret:
    secretName: {{ default $bearer.existingSecret $basic.existingSecret }}
    items: [{key: {{ ternary $basic.passwordKey $bearer.key (not (empty $basic.existingSecret)) }}, path: {{ ternary "password" "token" (not (empty $basic.existingSecret)) }}}]
{{- end }}
{{- if $ca.existingSecret }}
- name: prometheus-ca
  secret: {secretName: {{ $ca.existingSecret }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- else if $ca.existingConfigMap }}
- name: prometheus-ca
  configMap: {name: {{ $ca.existingConfigMap }}, items: [{key: {{ $ca.key }}, path: ca.crt}]}
{{- end }}
{{- end -}}

{{- define "cloudpulse.prometheus.mounts" -}}
{{- if or .Values.prometheus.basicAuth.existingSecret .Values.prometheus.bearerToken.existingSecret }}
- {name: prometheus, mountPath: /etc/cloudpulse/prometheus, readOnly: true}
{{- end }}
{{- if or .Values.prometheus.ca.existingSecret .Values.prometheus.ca.existingConfigMap }}
- {name: prometheus-ca, mountPath: /etc/cloudpulse/prometheus-ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* "true" where monitors and rules of the Prometheus Operator are made. */}}
{{- define "cloudpulse.operator" -}}
{{- if eq (toString .Values.monitoring.operator) "auto" -}}
{{- .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- else -}}
{{- .Values.monitoring.operator -}}
{{- end -}}
{{- end -}}
