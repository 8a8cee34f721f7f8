{{/* "true" where something of the Prometheus operator is wanted: (list $ enabled kind); null asks the cluster. */}}
{{- define "pipespec.monitored" -}}
{{- $root := index . 0 -}}{{- $enabled := index . 1 -}}
{{- if kindIs "invalid" $enabled -}}
{{- $enabled = $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 2)) -}}
{{- end -}}
{{- if $enabled -}}true{{- end -}}
{{- end -}}
