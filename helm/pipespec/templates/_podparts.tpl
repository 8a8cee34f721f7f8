{{/* Parts that pods of the chart share, those of Jobs and tests among them. */}}

{{/* Security of a pod: (list $ values). */}}
{{- define "pipespec.podSecurity" -}}
{{- $root := index . 0 -}}
securityContext:
  {{- toYaml (index . 1).podSecurityContext | nindent 2 }}
{{- with include "pipespec.pullSecrets" $root }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "pipespec.pullSecrets" -}}
{{- with concat (default list .Values.imagePullSecrets) (dig "imagePullSecrets" list (default (dict) .Values.global)) -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* Folders that may be written although the root file system may not. */}}
{{- define "pipespec.writableMounts" -}}
- name: tmp
  mountPath: /tmp
- name: home
  mountPath: /home/pipespec
- name: shm
  mountPath: /dev/shm
{{- end -}}

{{- define "pipespec.writableVolumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .volumes.tmp }}
- name: home
  emptyDir:
    sizeLimit: {{ .volumes.home }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .volumes.shm }}
{{- end -}}

{{/* Environment of every container: (list $ component). */}}
{{- define "pipespec.env" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: HOME
  value: /home/pipespec
{{- if $component.models }}
{{ include "pipespec.modelEnv" $root }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- end -}}

{{/* Where a component's pods go: (list $ component). */}}
{{- define "pipespec.scheduling" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := $component.values -}}
{{- with $values.nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with $values.tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with include "pipespec.affinity" . | trim -}}
affinity:
  {{- . | nindent 2 }}
{{ end -}}
{{- with include "pipespec.spread" . | trim -}}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{ end -}}
{{- range $name := list "priorityClassName" "runtimeClassName" "schedulerName" -}}
{{- with get $values $name }}
{{ $name }}: {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The values' own affinity; else, where a claim can be mounted on one node only, that node. */}}
{{- define "pipespec.affinity" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- with $component.values.affinity -}}
{{- toYaml . -}}
{{- else -}}
{{- with include "pipespec.cacheLabel" (list $root $component) | trim -}}
{{- if include "pipespec.cacheOnOneNode" $root -}}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- . | nindent 10 }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.spread" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- $selector := dict "matchLabels" (include "pipespec.selector" (list $root $component.name) | fromYaml) -}}
{{- $constraints := $component.values.topologySpreadConstraints -}}
{{- if kindIs "invalid" $constraints -}}
  {{- $constraints = list -}}
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
    {{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" "ScheduleAnyway") -}}
  {{- end -}}
{{- end -}}
{{- $spread := list -}}
{{- range $constraints -}}
  {{- $spread = append $spread (merge (deepCopy .) (dict "labelSelector" $selector)) -}}
{{- end -}}
{{- with $spread }}{{ toYaml . }}{{ end -}}
{{- end -}}
