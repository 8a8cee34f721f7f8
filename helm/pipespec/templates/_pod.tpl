{{/*
A component's pod template: (dict "root" $ "component" c "checksum" "stage" "args" list "env" list "ports" dict
"resources" r "annotations" a "mounts" list "volumes" list). What every pod has is said here once: security, probes, writable folders, configuration, models.
*/}}

{{- define "pipespec.podTemplate" -}}
{{- $root := .root -}}{{- $component := .component -}}{{- $values := $component.values -}}
metadata:
  annotations:
    checksum/pipeline: {{ include "pipespec.checksum" (list $root .checksum) }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with merge (dict) $values.podAnnotations $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels: {{- /* nothing with a version in it: a new chart alone is no reason to load a model again */}}
    {{- include "pipespec.selector" (list $root $component.name) | nindent 4 }}
    app.kubernetes.io/part-of: pipespec
    {{- with $component.stage }}
    pipespec.io/stage: {{ . }}
    {{- end }}
    {{- if ne $component.name "broker" }}
    pipespec.io/on-bus: "true"
    {{- end }}
    {{- if $component.usesApi }}
    pipespec.io/asks-api-server: "true"
    {{- end }}
    {{- with include "pipespec.cacheLabel" (list $root $component) }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if contains "fetch-model" (include "pipespec.modelInitContainers" (list $root $component)) }}
    pipespec.io/fetches-models: "true"
    {{- end }}
    {{- with merge (dict) $values.podLabels $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pipespec.accountName" (list $root $component.name $values) }}
  automountServiceAccountToken: {{ default false $component.usesApi }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "pipespec.grace" (list $component) }}
  {{- with include "pipespec.scheduling" (list $root $component) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- include "pipespec.podSecurity" (list $root $values) | nindent 2 }}
  {{- with include "pipespec.modelInitContainers" (list $root $component) | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: pipespec
      {{- include "pipespec.imageLines" (list $root $component) | nindent 6 }}
      args:
        {{- toYaml (concat .args $values.extraArgs) | nindent 8 }}
      env:
        {{- include "pipespec.env" (list $root $component) | nindent 8 }}
        {{- with concat .env $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $name, $port := .ports }}
        - name: {{ $name }}
          containerPort: {{ $port }}
        {{- end }}
        - name: metrics
          containerPort: {{ $root.Values.metrics.port }}
      {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with get $values $probe }}
      {{ $probe }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      securityContext:
        {{- toYaml $values.containerSecurityContext | nindent 8 }}
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: pipeline
          mountPath: /etc/pipespec
          readOnly: true
        {{- include "pipespec.writableMounts" . | nindent 8 }}
        {{- with include "pipespec.keyMounts" (list $root $component) | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "pipespec.modelMount" (list $root $component true) }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with concat (default list .mounts) $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: pipeline
      configMap:
        name: {{ include "pipespec.fullname" $root }}
    {{- include "pipespec.writableVolumes" $values | nindent 4 }}
    {{- with include "pipespec.keyVolumes" (list $root $component) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with include "pipespec.modelVolume" (list $root $component) }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with concat (default list .volumes) $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
