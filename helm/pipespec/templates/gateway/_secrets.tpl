{{/*
Keys and certificate of the gateways: volumes, never environment, so that a changed Secret reaches pods that run.
*/}}

{{- define "pipespec.gatewayVolumes" -}}
{{- $volumes := list -}}
{{- with .Values.gateway.auth.existingSecret -}}
  {{- $volumes = append $volumes (dict "name" "api-keys" "secret" (dict "secretName" . "defaultMode" 288)) -}}
{{- end -}}
{{- with .Values.gateway.tls.existingSecret -}}
  {{- $volumes = append $volumes (dict "name" "tls" "secret" (dict "secretName" . "defaultMode" 288)) -}}
{{- end -}}
{{- toJson $volumes -}}
{{- end -}}

{{- define "pipespec.gatewayMounts" -}}
{{- $mounts := list -}}
{{- range (include "pipespec.gatewayVolumes" . | fromJsonArray) -}}
  {{- $mounts = append $mounts (dict "name" .name "mountPath" (printf "/etc/pipespec-%s" .name) "readOnly" true) -}}
{{- end -}}
{{- toJson $mounts -}}
{{- end -}}

{{/* "true" where `helm test` has an authority to trust beside the well-known ones. */}}
{{- define "pipespec.hasCa" -}}
{{- with .Values.gateway.tls }}{{ if and .existingSecret .caKey }}true{{ end }}{{ end -}}
{{- end -}}
