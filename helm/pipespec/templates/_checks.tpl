{{/* What the schema cannot say. Every message says what to do. */}}

{{- define "pipespec.checkIndexes" -}}
{{- if not .Values.stages -}}
{{- fail "\n\nstages is empty: a chain needs at least a target.\nTake one of the examples in helm/pipespec/examples/, such as:\n  helm install ... --values helm/pipespec/examples/emulated.yaml" -}}
{{- end -}}
{{- range $name, $_ := .Values.stages -}}
  {{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$" $name) -}}
    {{- fail (printf "\n\nstages.%s: the name becomes part of names of objects.\nUse a-z, 0-9 and dashes (not first or last), 20 characters at most." $name) -}}
  {{- end -}}
  {{- if has $name (list "gateway" "gateway-headless" "broker" "autoscaler") -}}
    {{- fail (printf "\n\nstages.%s: the release has something else of that name.\nCall the stage something else." $name) -}}
  {{- end -}}
{{- end -}}
{{- $byIndex := dict -}}
{{- range $name, $stage := .Values.stages -}}
  {{- $index := toString (int $stage.index) -}}
  {{- if hasKey $byIndex $index -}}
    {{- fail (printf "\n\nstages.%s and stages.%s both have index %s.\nGive each stage its own place in the chain: 0 for the smallest, %d for the target." (get $byIndex $index) $name $index (sub (len $.Values.stages) 1)) -}}
  {{- end -}}
  {{- $byIndex = set $byIndex $index $name -}}
{{- end -}}
{{- range $index := until (len .Values.stages) -}}
  {{- if not (hasKey $byIndex (toString $index)) -}}
    {{- fail (printf "\n\nno stage has index %d: the %d stages have %s.\nNumber them from 0 (the smallest) to %d (the target) without gaps." $index (len $.Values.stages) (keys $byIndex | sortAlpha | join ", ") (sub (len $.Values.stages) 1)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.checks" -}}
{{- $stages := include "pipespec.stages" . | fromJsonArray -}}
{{- range $rank, $stage := $stages -}}
  {{- include "pipespec.checkStage" (list $ $stage (eq (add1 $rank) (len $stages))) -}}
{{- end -}}
{{- include "pipespec.checkKinds" (list $stages) -}}
{{- $gateway := include "pipespec.gateway" . | fromJson -}}
{{- include "pipespec.checkScaler" (list "gateway" $gateway.values) -}}
{{- range (include "pipespec.components" . | fromJsonArray) -}}
  {{- include "pipespec.checkPod" . -}}
{{- end -}}
{{- range $name := list "image" "stageImage" -}}
  {{- include "pipespec.checkTag" (list $name (get $.Values $name)) -}}
{{- end -}}
{{- include "pipespec.checkPorts" . -}}
{{- include "pipespec.checkKeys" . -}}
{{- include "pipespec.checkAccess" . -}}
{{- include "pipespec.checkCache" . -}}
{{- include "pipespec.checkAutoscaler" . -}}
{{- end -}}

{{- define "pipespec.checkStage" -}}
{{- $stage := index . 1 -}}{{- $values := $stage.values -}}{{- $at := printf "stages.%s" $stage.stage -}}
{{- include "pipespec.checkScaler" (list $at $values) -}}
{{- $scaling := $values.autoscaling -}}
{{- if and (index . 2) (ne $scaling.type "none") (lt (int $scaling.minReplicas) 1) -}}
  {{- fail (printf "\n\n%s.autoscaling.minReplicas is 0, but it is the target: without it nothing is served.\nSet it to 1 or more; drafts may go down to 0." $at) -}}
{{- end -}}
{{- if and (index . 2) (not (kindIs "invalid" $values.replicas)) (lt (int $values.replicas) 1) -}}
  {{- fail (printf "\n\n%s.replicas is 0, but it is the target: without it nothing is served.\nSet it to 1 or more." $at) -}}
{{- end -}}
{{- $count := int $values.accelerator.count -}}
{{- $parts := int (default 1 $values.tensorParallel) -}}
{{- if and (gt $count 0) (lt $count $parts) -}}
  {{- fail (printf "\n\n%s.tensorParallel is %d, but a pod gets %d GPU(s).\nSet %s.accelerator.count to %d." $at $parts $count $at $parts) -}}
{{- end -}}
{{- end -}}

{{/* What the services would say only when they start: (list stages). */}}
{{- define "pipespec.checkKinds" -}}
{{- $stages := index . 0 -}}{{- $emulated := list -}}{{- $real := list -}}
{{- range $rank, $stage := $stages -}}
  {{- $values := $stage.values -}}{{- $kind := default "transformers" $values.kind -}}{{- $at := printf "stages.%s" $stage.stage -}}
  {{- if eq $kind "emulated" -}}{{- $emulated = append $emulated $at -}}{{- else -}}{{- $real = append $real $at -}}{{- end -}}
  {{- if and (eq $kind "transformers") (not $values.model) -}}
    {{- fail (printf "\n\n%s has no model.\nSet %s.model (hub id, folder or .gguf file), or %s.kind to suffix or emulated." $at $at $at) -}}
  {{- end -}}
  {{- if and (ne $kind "transformers") $values.model -}}
    {{- fail (printf "\n\n%s is of kind %s, which runs no model.\nRemove %s.model, or the kind." $at $kind $at) -}}
  {{- end -}}
  {{- if and (eq $kind "suffix") (or (gt $rank 0) (eq (len $stages) 1)) -}}
    {{- fail (printf "\n\n%s is of kind suffix, which checks nothing: it can only be first, before a target.\nGive it index 0 and a stage after it." $at) -}}
  {{- end -}}
  {{- if and (eq $kind "emulated") (not $values.emulation) -}}
    {{- fail (printf "\n\n%s is emulated, but says nothing of its speed.\nSet %s.emulation, such as {latencyMs: {1: 20, 8: 25}}." $at $at) -}}
  {{- end -}}
  {{- if and (ne $kind "emulated") $values.emulation -}}
    {{- fail (printf "\n\n%s has emulation, but is of kind %s.\nRemove it, or set %s.kind to emulated." $at $kind $at) -}}
  {{- end -}}
{{- end -}}
{{- if and $emulated $real -}}
  {{- fail (printf "\n\n%s: emulated; %s: not. Emulated words mean nothing to other stages.\nMake all stages emulated, or none." (join ", " $emulated) (join ", " $real)) -}}
{{- end -}}
{{- end -}}

{{/* (list where values) */}}
{{- define "pipespec.checkScaler" -}}
{{- $at := index . 0 -}}{{- $values := index . 1 -}}{{- $scaling := $values.autoscaling -}}
{{- if ne $scaling.type "none" -}}
  {{- if not (kindIs "invalid" $values.replicas) -}}
    {{- fail (printf "\n\n%s.replicas is %d, and %s.autoscaling.type is %s: every upgrade would undo what the scaler decided.\nRemove replicas and set autoscaling.minReplicas, or set autoscaling.type to none." $at (int $values.replicas) $at $scaling.type) -}}
  {{- end -}}
  {{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
    {{- fail (printf "\n\n%s.autoscaling.minReplicas is %d, above maxReplicas, %d.\nRaise maxReplicas or lower minReplicas." $at (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
  {{- end -}}
{{- end -}}
{{- if and $scaling.keda.triggers (ne $scaling.type "keda") -}}
  {{- fail (printf "\n\n%s.autoscaling has keda.triggers, but type %s: two scalers would fight over one stage.\nSet type to keda, or remove the triggers." $at $scaling.type) -}}
{{- end -}}
{{- if and $scaling.hpa.metrics (ne $scaling.type "hpa") -}}
  {{- fail (printf "\n\n%s.autoscaling has hpa.metrics, but type %s: two scalers would fight over one stage.\nSet type to hpa, or remove the metrics." $at $scaling.type) -}}
{{- end -}}
{{- if eq $scaling.type "hpa" -}}
  {{- if not (or $scaling.hpa.targetCPUUtilization $scaling.hpa.metrics) -}}
    {{- fail (printf "\n\n%s.autoscaling.type is hpa, but nothing says what to look at.\nSet autoscaling.hpa.targetCPUUtilization (percent), or autoscaling.hpa.metrics." $at) -}}
  {{- end -}}
  {{- if lt (int $scaling.minReplicas) 1 -}}
    {{- fail (printf "\n\n%s.autoscaling.minReplicas is 0, which an HPA cannot do.\nSet it to 1, or use type keda or pipespec." $at) -}}
  {{- end -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (not $scaling.keda.triggers) -}}
  {{- fail (printf "\n\n%s.autoscaling.type is keda, but keda.triggers is empty.\nAdd a trigger, such as {type: prometheus, metadata: {serverAddress: ..., query: ..., threshold: ...}}." $at) -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.checkPod" -}}
{{- $at := ternary (printf "stages.%s" (default "" .stage)) .name (hasKey . "stage") -}}
{{- $least := add (int .drainS) 10 -}}
{{- $grace := .values.terminationGracePeriodSeconds -}}
{{- if and (not (kindIs "invalid" $grace)) (lt (int $grace) (int $least)) -}}
  {{- fail (printf "\n\n%s.terminationGracePeriodSeconds is %d, less than the %d s that its drain takes (drain delay + drain timeout + 10): streams would be cut.\nRemove it, or make the drain shorter." $at (int $grace) (int $least)) -}}
{{- end -}}
{{- $budget := .values.podDisruptionBudget -}}
{{- if and $budget.enabled (not (kindIs "invalid" $budget.minAvailable)) (not (kindIs "invalid" $budget.maxUnavailable)) -}}
  {{- fail (printf "\n\n%s.podDisruptionBudget has minAvailable and maxUnavailable; Kubernetes takes one of them.\nSet the other to null." $at) -}}
{{- end -}}
{{- if and $budget.enabled (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable) -}}
  {{- fail (printf "\n\n%s.podDisruptionBudget has neither minAvailable nor maxUnavailable.\nSet one of them, or enabled to false." $at) -}}
{{- end -}}
{{- include "pipespec.checkTag" (list (printf "%s.image" $at) (default (dict) .values.image)) -}}
{{- end -}}

{{/* (list where image) */}}
{{- define "pipespec.checkTag" -}}
{{- if eq (default "" (index . 1).tag) "latest" -}}
{{- fail (printf "\n\n%s.tag is latest: two pods of one release could run different code.\nName a version, or leave it empty for the chart's own." (index . 0)) -}}
{{- end -}}
{{- end -}}

{{/* No two ports of one pod may be the same. */}}
{{- define "pipespec.checkPorts" -}}
{{- $pods := dict
  "gateway" (dict "gateway.httpPort" .Values.gateway.httpPort "gateway.grpcPort" .Values.gateway.grpcPort "gateway.zmqPort" .Values.gateway.zmqPort "metrics.port" .Values.metrics.port)
  "broker" (dict "broker.publishPort" .Values.broker.publishPort "broker.subscribePort" .Values.broker.subscribePort "metrics.port" .Values.metrics.port)
  "service" (dict "gateway.service.ports.http" .Values.gateway.service.ports.http "gateway.service.ports.grpc" .Values.gateway.service.ports.grpc "gateway.service.ports.zmq" .Values.gateway.service.ports.zmq) -}}
{{- range $pods -}}
  {{- $taken := dict -}}
  {{- range $name, $port := . -}}
    {{- $key := toString (int $port) -}}
    {{- if hasKey $taken $key -}}
      {{- fail (printf "\n\n%s and %s are both %s.\nGive each its own port." (get $taken $key) $name $key) -}}
    {{- end -}}
    {{- $taken = set $taken $key $name -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Pods bind an address that others reach. */}}
{{- define "pipespec.checkAccess" -}}
{{- $gateway := .Values.gateway -}}
{{- if and (not $gateway.auth.existingSecret) (not $gateway.insecure) -}}
  {{- fail "\n\ngateway.auth.existingSecret is empty: whoever reaches the gateways could use them.\nMake a key and a Secret:\n  pipespec api-keys new api-keys.yaml NAME\n  kubectl create secret generic pipespec-api-keys --from-file api-keys.yaml\nand set gateway.auth.existingSecret to pipespec-api-keys, or set gateway.insecure to true." -}}
{{- end -}}
{{- if and $gateway.auth.existingSecret $gateway.insecure -}}
  {{- fail (printf "\n\ngateway.auth.existingSecret is %s, and gateway.insecure is true.\nRemove one of them." $gateway.auth.existingSecret) -}}
{{- end -}}
{{- if and $gateway.auth.existingSecret .Values.tests.enabled (not .Values.tests.apiKey.existingSecret) -}}
  {{- fail "\n\nThe gateways ask for keys, and the pods of `helm test` have none.\nSet tests.apiKey.existingSecret to a Secret with a key for them, or tests.enabled to false." -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.checkCache" -}}
{{- $cache := .Values.modelCache -}}
{{- if and (eq $cache.type "claim") (not $cache.existingClaim) -}}
  {{- fail "\n\nmodelCache.type is claim, but modelCache.existingClaim is empty.\nName your PersistentVolumeClaim, or set type to pvc to let the chart make one." -}}
{{- end -}}
{{- if and (ne $cache.type "claim") $cache.existingClaim -}}
  {{- fail (printf "\n\nmodelCache.existingClaim is %s, but modelCache.type is %s.\nSet type to claim, or remove existingClaim." $cache.existingClaim $cache.type) -}}
{{- end -}}
{{- if and (include "pipespec.downloads" .) (eq (join "," $cache.accessModes) "ReadOnlyMany") -}}
  {{- fail "\n\nmodelCache.accessModes is ReadOnlyMany, so nothing can be downloaded into the claim.\nFill it beforehand and set modelCache.download.enabled to false, or use ReadWriteMany." -}}
{{- end -}}
{{- if and (include "pipespec.hasClaim" .) (has "ReadWriteOncePod" $cache.accessModes) -}}
  {{- fail "\n\nmodelCache.accessModes has ReadWriteOncePod, but gateways and stages read the same claim.\nUse ReadWriteMany, or ReadWriteOnce on a single node." -}}
{{- end -}}
{{- if include "pipespec.cacheOnOneNode" . -}}
  {{- range (include "pipespec.components" . | fromJsonArray) -}}
    {{- if .models -}}
      {{- include "pipespec.checkOneReplica" . -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* A volume that one node can mount and a workload of several pods wait for each other for ever. */}}
{{- define "pipespec.checkOneReplica" -}}
{{- $at := ternary (printf "stages.%s" (default "" .stage)) .name (hasKey . "stage") -}}
{{- $scaling := .values.autoscaling -}}
{{- $most := int (ternary (ternary 2 1 (eq .name "gateway")) .values.replicas (kindIs "invalid" .values.replicas)) -}}
{{- if ne $scaling.type "none" -}}{{- $most = int $scaling.maxReplicas -}}{{- end -}}
{{- if gt $most 1 -}}
  {{- fail (printf "\n\nmodelCache.accessModes is ReadWriteOnce, which one node can mount, but %s has up to %d pods: they would wait for the volume for ever.\nUse a ReadWriteMany claim, modelCache.type emptyDir or image, or one replica of each." $at $most) -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.checkAutoscaler" -}}
{{- if include "pipespec.autoscaled" . -}}
  {{- $autoscaler := .Values.autoscaler -}}
  {{- if and $autoscaler.profile $autoscaler.existingProfile.configMap -}}
    {{- fail "\n\nautoscaler.profile and autoscaler.existingProfile.configMap are both set.\nRemove one of them." -}}
  {{- end -}}
  {{- if not (or $autoscaler.profile $autoscaler.existingProfile.configMap) -}}
    {{- range (include "pipespec.stages" . | fromJsonArray) -}}
      {{- if ne (default "transformers" .values.kind) "emulated" -}}
        {{- fail (printf "\n\nautoscaling.type pipespec needs to know how fast the stages are, and stages.%s is not emulated.\nMeasure the chain with: pipespec profile FILE --out profile.yaml\nthen install with: --set-file autoscaler.profile=profile.yaml (or name a ConfigMap in autoscaler.existingProfile)." .stage) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
