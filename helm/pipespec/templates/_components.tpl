{{/*
Components: what their templates and the shared ones need to know of them, as JSON:
  {name, object, values, models: [{model, revision, textOnly}], usesApi, drainS, stage, rank}
`object` is the name of the workload and of what belongs to it; `values` are the component's, over `podDefaults`.
*/}}

{{- define "pipespec.gateway" -}}
{{- $values := mustMergeOverwrite (deepCopy .Values.podDefaults) (deepCopy .Values.gateway) -}}
{{- $models := list -}}
{{- range (include "pipespec.stages" . | fromJsonArray | last).models -}}
  {{- $models = append $models (set . "textOnly" true) -}}
{{- end -}}
{{- dict
  "name" "gateway"
  "object" (printf "%s-gateway" (include "pipespec.fullname" .))
  "values" $values
  "models" $models
  "usesApi" $values.watchEndpoints
  "drainS" (ceil (addf $values.drainDelayS $values.drainTimeoutS))
  | toJson -}}
{{- end -}}

{{- define "pipespec.broker" -}}
{{- dict
  "name" "broker"
  "object" (printf "%s-broker" (include "pipespec.fullname" .))
  "values" (mustMergeOverwrite (deepCopy .Values.podDefaults) (deepCopy .Values.broker))
  "models" list
  "drainS" 0
  | toJson -}}
{{- end -}}

{{- define "pipespec.autoscaler" -}}
{{- dict
  "name" "autoscaler"
  "object" (printf "%s-autoscaler" (include "pipespec.fullname" .))
  "values" (mustMergeOverwrite (deepCopy .Values.podDefaults) (deepCopy .Values.autoscaler))
  "models" list
  "usesApi" true
  "drainS" 0
  | toJson -}}
{{- end -}}

{{/* All stages as a JSON array, from the smallest to the target. */}}
{{- define "pipespec.stages" -}}
{{- $root := . -}}
{{- include "pipespec.checkIndexes" . -}}
{{- $stages := list -}}
{{- range $rank := until (len .Values.stages) -}}
  {{- range $name, $given := $root.Values.stages -}}
    {{- if eq (int $given.index) $rank -}}
      {{- $stages = append $stages (include "pipespec.stage" (list $root $name $given) | fromJson) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $stages -}}
{{- end -}}

{{- define "pipespec.stage" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $given := index . 2 -}}
{{- $defaults := mustMergeOverwrite (deepCopy $root.Values.podDefaults) (deepCopy $root.Values.stageDefaults) -}}
{{- $values := mustMergeOverwrite $defaults (deepCopy $given) -}}
{{- $models := list -}}
{{- if eq (default "transformers" $values.kind) "transformers" -}}
  {{- $models = list (dict "model" (default "" $values.model) "revision" (default "" $values.revision)) -}}
{{- end -}}
{{- dict
  "name" (printf "stage-%s" $name)
  "stage" $name
  "rank" (int $given.index)
  "object" (printf "%s-%s" (include "pipespec.fullname" $root) $name)
  "values" $values
  "models" $models
  "drainS" (ceil $values.drainTimeoutS)
  | toJson -}}
{{- end -}}

{{/* All components that run, as a JSON array. */}}
{{- define "pipespec.components" -}}
{{- $all := list (include "pipespec.gateway" . | fromJson) (include "pipespec.broker" . | fromJson) -}}
{{- if include "pipespec.autoscaled" . -}}
{{- $all = append $all (include "pipespec.autoscaler" . | fromJson) -}}
{{- end -}}
{{- concat $all (include "pipespec.stages" . | fromJsonArray) | toJson -}}
{{- end -}}

{{/* "true" where the chain's own autoscaler scales a stage. */}}
{{- define "pipespec.autoscaled" -}}
{{- range (include "pipespec.stages" . | fromJsonArray) -}}
{{- if eq .values.autoscaling.type "pipespec" -}}true{{- break -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: (list component). */}}
{{- define "pipespec.grace" -}}
{{- $component := index . 0 -}}
{{- $least := add (int $component.drainS) 10 -}}
{{- default $least $component.values.terminationGracePeriodSeconds -}}
{{- end -}}

{{/* Replicas of a workload, or nothing where something scales it: (list component default). */}}
{{- define "pipespec.replicas" -}}
{{- $values := (index . 0).values -}}
{{- if eq (dig "autoscaling" "type" "none" $values) "none" -}}
replicas: {{ ternary (index . 1) $values.replicas (kindIs "invalid" $values.replicas) }}
{{- end -}}
{{- end -}}
