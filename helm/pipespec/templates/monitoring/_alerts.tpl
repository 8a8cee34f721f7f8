{{/* Alerts, as a YAML list: (dict "of" labels "target" rank "slowS" seconds). Descriptions say what to look at. */}}
{{- define "pipespec.alerts" -}}
- alert: PipespecTargetGone
  expr: >-
    max(pipespec_gateway_usable_replicas{ {{- .of }},stage="{{ .target }}"}) < 1
      or absent(pipespec_gateway_usable_replicas{ {{- .of }},stage="{{ .target }}"})
  for: 1m
  labels: {severity: critical}
  annotations:
    summary: >-
      No gateway knows a target replica that can take sessions
    description: >-
      Nothing is served. Are the target's pods ready, do the gateways and the brokers run?
- alert: PipespecDraftGone
  expr: >-
    max by (stage) (pipespec_gateway_usable_replicas{ {{- .of }},stage!="{{ .target }}"}) < 1
  for: 15m
  labels: {severity: info}
  annotations:
    summary: >-
      Draft stage {{ "{{ $labels.stage }}" }} has no replica
    description: >-
      Text comes, but slower. An autoscaler may have switched the draft off because it did not pay.
- alert: PipespecRequestsFail
  expr: |-
    sum(rate(pipespec_gateway_requests_total{ {{- .of }},outcome!~"ok|abandoned"}[5m]))
      / sum(rate(pipespec_gateway_requests_total{ {{- .of }}}[5m])) > 0.05
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: >-
      More than one request in twenty ends with an error
    description: >-
      The label outcome of pipespec_gateway_requests_total says which.
- alert: PipespecFirstTokenSlow
  expr: |-
    histogram_quantile(0.9, sum by (le) (rate(pipespec_gateway_first_token_seconds_bucket{ {{- .of }}}[5m]))) > {{ .slowS }}
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: >-
      One request in ten waits more than {{ .slowS }} s for its first token
    description: >-
      Prompts queue at the target. More replicas of it, or shorter prompts, help.
- alert: PipespecSessionsRefused
  expr: >-
    sum(rate(pipespec_gateway_refused_sessions_total{ {{- .of }}}[5m])) > 0
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: >-
      Clients are answered with 429
    description: >-
      All replicas are full. Raise replicas or maxSessions of the stage that is full, or of the gateways.
- alert: PipespecDraftDoesNotPay
  expr: |-
    sum by (component) (rate(pipespec_stage_accepted_total{ {{- .of }}}[30m]))
      / (sum by (component) (rate(pipespec_stage_checked_total{ {{- .of }}}[30m])) > 1) < 0.2
  for: 1h
  labels: {severity: info}
  annotations:
    summary: >-
      {{ "{{ $labels.component }}" }} accepts fewer than one in five candidates of the stage before it
    description: >-
      The draft costs more than it brings. `pipespec plan` says what the chain would do without it.
- alert: PipespecCacheTooSmall
  expr: >-
    sum by (component) (rate(pipespec_stage_preemptions_total{ {{- .of }}}[10m])) > 0.1
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: >-
      {{ "{{ $labels.component }}" }} takes the cache of younger sessions for older ones
    description: >-
      What was taken is computed again. Lower maxSessions, raise cacheGib, or add replicas.
- alert: PipespecBusLost
  expr: >-
    min by (pod) (pipespec_bus_joined{ {{- .of }}}) < 1
  for: 2m
  labels: {severity: critical}
  annotations:
    summary: >-
      {{ "{{ $labels.pod }}" }} hears no broker
    description: >-
      Do the brokers run, and does a network policy let the pod reach them?
- alert: PipespecBusOverflows
  expr: >-
    sum by (pod) (rate(pipespec_bus_overflowed_messages_total{ {{- .of }}}[5m])) > 0
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: >-
      {{ "{{ $labels.pod }}" }} does not keep up with its messages
    description: >-
      It has too little CPU, or too many sessions. Nothing is wrong in the text, but it comes late.
- alert: PipespecGoalOutOfReach
  expr: >-
    max(pipespec_autoscaler_goal_met{ {{- .of }}}) < 1
  for: 15m
  labels: {severity: warning}
  annotations:
    summary: >-
      No number of replicas that the autoscaler may choose keeps its goal
    description: >-
      Raise autoscaling.maxReplicas of the stages, or autoscaler.goalMs.
- alert: PipespecAutoscalerBlind
  expr: >-
    max(pipespec_autoscaler_telemetry_complete{ {{- .of }}}) < 1
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: >-
      The autoscaler does not hear enough to decide
    description: >-
      Its log says what is missing. The replicas stay as they are.
- alert: PipespecAutoscalerRefused
  expr: >-
    sum by (call, code) (rate(pipespec_autoscaler_api_failures_total{ {{- .of }}}[10m])) > 0.05
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: >-
      The API server refuses what the autoscaler asks ({{ "{{ $labels.call }}, {{ $labels.code }}" }})
    description: >-
      403 means that its Role does not fit; time-outs that a network policy is in the way.
- alert: PipespecKeysRefused
  expr: >-
    sum by (reason) (rate(pipespec_broker_refused_handshakes_total{ {{- .of }},reason=~"unlisted_key|wrong_server_key"}[10m])) > 0
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: >-
      Brokers turn somebody away ({{ "{{ $labels.reason }}" }})
    description: >-
      A key that was struck off, a pod with the Secret of another release, or a stranger. The brokers' logs have key and address.
{{- end -}}
