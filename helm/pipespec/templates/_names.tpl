{{/*
Names and labels. A StatefulSet's name may have 52 characters (its pods carry it with a revision's hash in a label), a
stage's 20: so the release has 31. A name that is too long keeps its beginning and gets a hash of the whole, because two
releases that differ only at their ends must not meet.
*/}}

{{- define "pipespec.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- if gt (len $full) 31 -}}
{{- $full = printf "%s-%s" (trunc 23 $full | trimSuffix "-") (sha256sum $full | trunc 7) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{/* What finds the pods of a component: (list $ "gateway"). Never more than these three: selectors cannot be changed. */}}
{{- define "pipespec.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object of a component: (list $ "gateway"), or of the release as a whole: (list $ ""). */}}
{{- define "pipespec.labels" -}}
{{- $root := index . 0 -}}
{{ include "pipespec.selector" . }}
app.kubernetes.io/part-of: pipespec
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: (dict "root" $ "component" "gateway" "name" n "labels" l "annotations" a). */}}
{{- define "pipespec.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pipespec.labels" (list .root .component) | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Reference of an image: (list $ image). */}}
{{- define "pipespec.reference" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $registry := default $image.registry (dig "imageRegistry" "" (default (dict) $root.Values.global)) -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end }}{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Image and pull policy of a component, as lines of its container: (list $ component). */}}
{{- define "pipespec.imageLines" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- $runsModel := and (hasKey $component "rank") $component.models -}}
{{- $base := ternary $root.Values.stageImage $root.Values.image (not (empty $runsModel)) -}}
{{- $image := mustMergeOverwrite (deepCopy $base) (default (dict) $component.values.image) -}}
image: {{ include "pipespec.reference" (list $root $image) }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}

{{/* Account of a component: (list $ component values). */}}
{{- define "pipespec.accountName" -}}
{{- $account := (index . 2).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "pipespec.fullname" (index . 0)) (index . 1)) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}
