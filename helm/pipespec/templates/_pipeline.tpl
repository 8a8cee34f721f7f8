{{/*
The pipeline file. Values are camelCase, its keys snake_case; all that is not a matter of pods is handed on as it is, so a
new key of the file needs no new template.
*/}}

{{/* Keys of a stage that are a matter of pods, beside those of podDefaults. */}}
{{- define "pipespec.stageKeys" -}}
{{- toJson (list "index" "replicas" "image" "accelerator" "autoscaling" "resources" "updateStrategy") -}}
{{- end -}}

{{- define "pipespec.gatewayKeys" -}}
{{- toJson (list "replicas" "image" "auth" "tls" "zmqKeysSecret" "watchEndpoints" "resources" "updateStrategy" "autoscaling" "service" "ingress" "httpRoute" "grpcRoute") -}}
{{- end -}}

{{- define "pipespec.autoscalerKeys" -}}
{{- toJson (list "replicas" "image" "profile" "existingProfile" "resources" "updateStrategy") -}}
{{- end -}}

{{/* The settings among a component's values: (list $ values "pipespec.stageKeys"). */}}
{{- define "pipespec.settings" -}}
{{- $kept := index . 1 -}}
{{- range concat (keys (index . 0).Values.podDefaults) (include (index . 2) (index . 0) | fromJsonArray) -}}
{{- $kept = omit $kept . -}}
{{- end -}}
{{- toJson $kept -}}
{{- end -}}

{{/* The whole file as JSON, with camelCase keys. */}}
{{- define "pipespec.pipeline" -}}
{{- $root := . -}}
{{- $workloads := list -}}{{- $stages := list -}}
{{- range (include "pipespec.stages" . | fromJsonArray) -}}
  {{- $workloads = append $workloads .object -}}
  {{- $settings := include "pipespec.settings" (list $root .values "pipespec.stageKeys") | fromJson -}}
  {{- if eq .values.autoscaling.type "pipespec" -}}
    {{- $settings = set $settings "scaling" (include "pipespec.scaling" . | fromJson) -}}
  {{- end -}}
  {{- $stages = append $stages $settings -}}
{{- end -}}
{{- $gateway := include "pipespec.settings" (list . .Values.gateway "pipespec.gatewayKeys") | fromJson -}}
{{- $gateway = merge (dict "host" .Values.bindAddress "metricsPort" .Values.metrics.port) $gateway -}}
{{- if .Values.gateway.zmqKeysSecret -}}
  {{- $gateway = set $gateway "zmqKeys" (include "pipespec.zmqKeysPath" .) -}}
{{- end -}}
{{- if .Values.gateway.auth.existingSecret -}}
  {{- $gateway = set $gateway "apiKeys" (printf "/etc/pipespec-api-keys/%s" .Values.gateway.auth.secretKey) -}}
{{- end -}}
{{- if .Values.gateway.tls.existingSecret -}}
  {{- $gateway = merge (dict "tlsCertificate" "/etc/pipespec-tls/tls.crt" "tlsKey" "/etc/pipespec-tls/tls.key") $gateway -}}
{{- end -}}
{{- $document := dict
  "name" (include "pipespec.fullname" .)
  "stages" $stages
  "brokers" (include "pipespec.brokers" . | fromJsonArray)
  "bus" (include "pipespec.bus" . | fromJson)
  "bindAnyAddress" (has .Values.bindAddress (list "0.0.0.0" "::"))
  "gateway" $gateway
  "stageHost" .Values.bindAddress
  "timers" .Values.timers
  "log" .Values.log
  "kubernetes" (dict
    "namespace" .Release.Namespace
    "workloads" $workloads
    "watch" .Values.gateway.watchEndpoints
    "lease" (include "pipespec.lease" .)) -}}
{{- if include "pipespec.autoscaled" . -}}
  {{- $document = set $document "autoscaler" (include "pipespec.autoscalerSettings" . | fromJson) -}}
{{- end -}}
{{- toJson $document -}}
{{- end -}}

{{- define "pipespec.brokers" -}}
{{- $root := . -}}{{- $broker := include "pipespec.broker" . | fromJson -}}{{- $brokers := list -}}
{{- range $n := until (int .Values.broker.replicas) -}}
  {{- $brokers = append $brokers (dict
    "host" (printf "%s-%d.%s.%s.svc.%s" $broker.object $n $broker.object $root.Release.Namespace $root.Values.clusterDomain)
    "bind" $root.Values.bindAddress
    "publishPort" $root.Values.broker.publishPort
    "subscribePort" $root.Values.broker.subscribePort
    "metricsPort" $root.Values.metrics.port) -}}
{{- end -}}
{{- toJson $brokers -}}
{{- end -}}

{{- define "pipespec.bus" -}}
{{- if .Values.bus.insecure -}}
{{- dict "insecure" true | toJson -}}
{{- else -}}
{{- $path := include "pipespec.busKeysPath" . -}}
{{- dict "serverKeys" (printf "%s/server" $path) "clientKeys" (printf "%s/client" $path) | toJson -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.scaling" -}}
{{- $gpus := .values.autoscaling.gpus -}}
{{- if kindIs "invalid" $gpus -}}{{- $gpus = default 1 .values.accelerator.count -}}{{- end -}}
{{- dict "minReplicas" .values.autoscaling.minReplicas "maxReplicas" .values.autoscaling.maxReplicas "gpus" $gpus | toJson -}}
{{- end -}}

{{- define "pipespec.autoscalerSettings" -}}
{{- $settings := include "pipespec.settings" (list . .Values.autoscaler "pipespec.autoscalerKeys") | fromJson -}}
{{- $settings = merge (dict "host" .Values.bindAddress "metricsPort" .Values.metrics.port) $settings -}}
{{- if or .Values.autoscaler.profile .Values.autoscaler.existingProfile.configMap -}}
  {{- $settings = set $settings "profile" "/etc/pipespec-profile/profile.yaml" -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}

{{- define "pipespec.lease" -}}{{ include "pipespec.fullname" . }}-autoscaler{{- end -}}

{{/*
Digest of what a component reads of the file: (list $ "stage"). Its pods are replaced when that changes and only then: a
new goal of the autoscaler must not make every stage load its model again.
*/}}
{{- define "pipespec.checksum" -}}
{{- $document := include "pipespec.pipeline" (index . 0) | fromJson -}}
{{- $component := index . 1 -}}
{{- if ne $component "autoscaler" -}}
  {{- $document = omit $document "autoscaler" -}}
  {{- $stages := list -}}
  {{- range $document.stages -}}{{- $stages = append $stages (omit . "scaling" "replicas") -}}{{- end -}}
  {{- $document = set $document "stages" $stages -}}
{{- end -}}
{{- if eq $component "broker" -}}
  {{- $document = pick $document "brokers" "bus" "bindAnyAddress" "log" -}}
{{- else if eq $component "stage" -}}
  {{- $document = omit $document "gateway" "kubernetes" -}}
{{- end -}}
{{- toJson $document | sha256sum -}}
{{- end -}}

{{/*
A value as YAML with snake_case keys. Numbers are written as JSON does it: Go's own way, 1e+06, is a string to YAML 1.1.
*/}}
{{- define "pipespec.yaml" -}}
{{- if and (kindIs "map" .) . }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ include "pipespec.yamlKey" $key }}:
{{- if and (or (kindIs "map" $value) (kindIs "slice" $value)) $value }}
{{- include "pipespec.yaml" $value | trim | nindent 2 }}
{{- else }} {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}
{{- else if and (kindIs "slice" .) . -}}
{{- range . }}
- {{ include "pipespec.yaml" . | indent 2 | trim }}
{{- end }}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* Numbers stay as they are: latencyMs is keyed by them. */}}
{{- define "pipespec.yamlKey" -}}
{{- if regexMatch "^[0-9]+$" . }}{{ . }}{{ else }}{{ snakecase . }}{{ end -}}
{{- end -}}

{{/* What clients call the model: the pipeline's own rule. */}}
{{- define "pipespec.modelName" -}}
{{- $target := include "pipespec.stages" . | fromJsonArray | last -}}
{{- $reference := default (include "pipespec.fullname" .) $target.values.model | trimSuffix "/" -}}
{{- default (splitList "/" $reference | last | splitList ":" | last) .Values.gateway.modelName -}}
{{- end -}}
