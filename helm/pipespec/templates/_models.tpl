{{/* Models: where their weights lie, how they get there, and how pods see them. */}}

{{/* Models that have to be fetched, each once, as a JSON array. Folders are there or not; GGUF files are converted. */}}
{{- define "pipespec.models" -}}
{{- $models := list -}}
{{- range (include "pipespec.stages" . | fromJsonArray) -}}
  {{- range .models -}}
    {{- if not (include "pipespec.isFolder" .model) -}}{{- $models = append $models . -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- $models | uniq | toJson -}}
{{- end -}}

{{- define "pipespec.isFolder" -}}
{{- if and (regexMatch "^[./~]" .) (not (hasSuffix ".gguf" .)) -}}true{{- end -}}
{{- end -}}

{{- define "pipespec.hasClaim" -}}
{{- if has .Values.modelCache.type (list "pvc" "claim") -}}true{{- end -}}
{{- end -}}

{{- define "pipespec.claimName" -}}
{{- if eq .Values.modelCache.type "claim" -}}
{{- .Values.modelCache.existingClaim -}}
{{- else -}}
{{- include "pipespec.fullname" . }}-models
{{- end -}}
{{- end -}}

{{/* "true" where a Job fills the claim. */}}
{{- define "pipespec.downloads" -}}
{{- if and (include "pipespec.hasClaim" .) .Values.modelCache.download.enabled (include "pipespec.models" . | fromJsonArray) -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where all pods that read the claim have to be on one node. */}}
{{- define "pipespec.cacheOnOneNode" -}}
{{- $modes := .Values.modelCache.accessModes -}}
{{- if and (include "pipespec.hasClaim" .) (not (has "ReadWriteMany" $modes)) (not (has "ReadOnlyMany" $modes)) -}}true{{- end -}}
{{- end -}}

{{/* Marks the pods that read the claim: (list $ component). */}}
{{- define "pipespec.cacheLabel" -}}
{{- if and (index . 1).models (include "pipespec.hasClaim" (index . 0)) -}}
pipespec.io/model-cache: {{ include "pipespec.claimName" (index . 0) | trunc 63 | trimSuffix "-" | trimSuffix "." }}
{{- end -}}
{{- end -}}

{{- define "pipespec.modelEnv" -}}
{{- $isImage := eq .Values.modelCache.type "image" -}}
- name: PIPESPEC_CACHE
  value: {{ ternary .Values.modelCache.imagePath "/cache/pipespec" $isImage }}
- name: HF_HOME
  value: {{ ternary (printf "%s/huggingface" .Values.modelCache.imagePath) "/cache/huggingface" $isImage }}
{{- end -}}

{{/* (list $ component readOnly) */}}
{{- define "pipespec.modelMount" -}}
{{- if and (index . 1).models (ne (index . 0).Values.modelCache.type "image") -}}
- name: models
  mountPath: /cache
  {{- if index . 2 }}
  readOnly: true
  {{- end }}
{{- end -}}
{{- end -}}

{{/* (list $ component) */}}
{{- define "pipespec.modelVolume" -}}
{{- $root := index . 0 -}}
{{- if and (index . 1).models (ne $root.Values.modelCache.type "image") -}}
- name: models
  {{- if include "pipespec.hasClaim" $root }}
  persistentVolumeClaim:
    claimName: {{ include "pipespec.claimName" $root }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $root.Values.modelCache.size }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* A container that fetches one model: (dict "root" $ "name" n "model" m "values" podDefaults). */}}
{{- define "pipespec.fetchContainer" -}}
{{- $download := .root.Values.modelCache.download -}}
- name: {{ .name }}
  image: {{ include "pipespec.reference" (list .root .root.Values.stageImage) }}
  imagePullPolicy: {{ .root.Values.stageImage.pullPolicy }}
  args:
    - models
    - fetch
    {{- include "pipespec.modelArgs" .model | nindent 4 }}
  env:
    - name: HOME
      value: /home/pipespec
    {{- include "pipespec.modelEnv" .root | nindent 4 }}
    {{- with $download.existingSecret }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef:
          name: {{ . }}
          key: {{ $download.secretKey }}
    {{- end }}
    {{- with $download.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- toYaml .values.containerSecurityContext | nindent 4 }}
  resources:
    {{- toYaml $download.resources | nindent 4 }}
  volumeMounts:
    {{- include "pipespec.writableMounts" . | nindent 4 }}
    - name: models
      mountPath: /cache
    {{- with .values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Reference, revision and part of a model, as the command line takes them. */}}
{{- define "pipespec.modelArgs" -}}
- {{ .model | quote }}
{{- with .revision }}
- --revision
- {{ . | quote }}
{{- end }}
{{- if .textOnly }}
- --text-only
{{- end }}
{{- end -}}

{{/* What has to happen before a component starts: the Job's work is waited for, or the pod fetches for itself. */}}
{{- define "pipespec.modelInitContainers" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- range $component.models -}}
  {{- if not (include "pipespec.isFolder" .model) -}}
    {{- if include "pipespec.downloads" $root -}}
      {{- include "pipespec.awaitContainer" (dict "root" $root "model" . "component" $component) -}}
    {{- else if eq $root.Values.modelCache.type "emptyDir" -}}
      {{- include "pipespec.fetchContainer" (dict "root" $root "name" "fetch-model" "model" . "values" $component.values) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Waits until the Job has fetched the model: without it, pods would crash until then, and wait longer each time. */}}
{{- define "pipespec.awaitContainer" -}}
{{- $values := .component.values -}}
- name: await-model
  {{- include "pipespec.imageLines" (list .root .component) | nindent 2 }}
  args:
    - models
    - wait
    {{- include "pipespec.modelArgs" .model | nindent 4 }}
    - --timeout-s
    - {{ .root.Values.modelCache.download.activeDeadlineSeconds | quote }}
  env:
    - name: HOME
      value: /home/pipespec
    {{- include "pipespec.modelEnv" .root | nindent 4 }}
    - name: HF_HUB_OFFLINE
      value: "1"
  securityContext:
    {{- toYaml $values.containerSecurityContext | nindent 4 }}
  resources:
    requests:
      cpu: 10m
      memory: 128Mi
    limits:
      memory: 512Mi
  volumeMounts:
    {{- include "pipespec.writableMounts" . | nindent 4 }}
    - name: models
      mountPath: /cache
      readOnly: true
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The pod of the Job that fetches models: (list $ component). All but the last are init containers: one after another. */}}
{{- define "pipespec.fetchPod" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := $component.values -}}
metadata:
  labels:
    {{- include "pipespec.selector" (list $root "models") | nindent 4 }}
    app.kubernetes.io/part-of: pipespec
    pipespec.io/fetches-models: "true"
    {{- include "pipespec.cacheLabel" (list $root $component) | nindent 4 }}
    {{- with merge (dict) $values.podLabels $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) $values.podAnnotations $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: OnFailure
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with include "pipespec.scheduling" (list $root (set (deepCopy $component) "values" (set (deepCopy $values) "topologySpreadConstraints" list))) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- include "pipespec.podSecurity" (list $root $values) | nindent 2 }}
  {{- with initial $component.models }}
  initContainers:
    {{- range $n, $model := . }}
    {{- include "pipespec.fetchContainer" (dict "root" $root "name" (printf "fetch-%d" $n) "model" $model "values" $values) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "pipespec.fetchContainer" (dict "root" $root "name" "fetch" "model" (last $component.models) "values" $values) | nindent 4 }}
  volumes:
    {{- include "pipespec.writableVolumes" $values | nindent 4 }}
    {{- include "pipespec.modelVolume" (list $root $component) | nindent 4 }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* "true" where any pod of the release downloads: the Job's, or each for itself. */}}
{{- define "pipespec.fetches" -}}
{{- if or (include "pipespec.downloads" .) (and (eq .Values.modelCache.type "emptyDir") (include "pipespec.models" . | fromJsonArray)) -}}true{{- end -}}
{{- end -}}
