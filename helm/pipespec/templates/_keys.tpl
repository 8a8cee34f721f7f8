{{/*
Keys of the bus and of the ZeroMQ edge, made by `pipespec keys`: Secrets of yours, mounted as volumes, so that the allow-list
follows them without a restart. Brokers get the servers' part, all others the clients'.
*/}}

{{- define "pipespec.busKeysPath" -}}/etc/pipespec-bus{{- end -}}

{{- define "pipespec.zmqKeysPath" -}}/etc/pipespec-zmq{{- end -}}

{{/* Folder and Secret of what a component reads of the bus's keys, as JSON: (list $ component); nothing in plain. */}}
{{- define "pipespec.busKeys" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- if not $root.Values.bus.insecure -}}
{{- $side := ternary "server" "client" (eq $component.name "broker") -}}
{{- $secret := ternary $root.Values.bus.serverSecret $root.Values.bus.clientSecret (eq $side "server") -}}
{{- dict "path" (printf "%s/%s" (include "pipespec.busKeysPath" $root) $side) "secret" $secret | toJson -}}
{{- end -}}
{{- end -}}

{{- define "pipespec.keyMounts" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- with include "pipespec.busKeys" . }}
- name: bus-keys
  mountPath: {{ (fromJson .).path }}
  readOnly: true
{{- end }}
{{- if and (eq $component.name "gateway") $root.Values.gateway.zmqKeysSecret }}
- name: zmq-keys
  mountPath: {{ include "pipespec.zmqKeysPath" $root }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "pipespec.keyVolumes" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- with include "pipespec.busKeys" . }}
{{- include "pipespec.keyVolume" (list "bus-keys" (fromJson .).secret) }}
{{- end }}
{{- if and (eq $component.name "gateway") $root.Values.gateway.zmqKeysSecret }}
{{- include "pipespec.keyVolume" (list "zmq-keys" $root.Values.gateway.zmqKeysSecret) }}
{{- end }}
{{- end -}}

{{/* Read by its owner, and by the group that podSecurityContext.fsGroup names: (list name secret). 256 is 0400. */}}
{{- define "pipespec.keyVolume" }}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 256
{{- end -}}

{{- define "pipespec.checkKeys" -}}
{{- $bus := .Values.bus -}}
{{- if and $bus.insecure (or $bus.serverSecret $bus.clientSecret) -}}
  {{- fail "\n\nbus.insecure is true, and bus.serverSecret or bus.clientSecret is set.\nRemove one of them." -}}
{{- end -}}
{{- if and (not $bus.insecure) (not (and $bus.serverSecret $bus.clientSecret)) -}}
  {{- fail "\n\nThe bus needs keys: whoever reaches it could read and steer every stream.\nMake them with:\n  pipespec keys new FOLDER --kubernetes-secret pipespec-bus | kubectl apply --namespace NAMESPACE --filename -\nand set bus.serverSecret to pipespec-bus-server and bus.clientSecret to pipespec-bus-fleet; or set bus.insecure to true and rely on the network policies." -}}
{{- end -}}
{{- $gateway := .Values.gateway -}}
{{- if and $gateway.zmqInsecure $gateway.zmqKeysSecret -}}
  {{- fail "\n\ngateway.zmqInsecure is true, and gateway.zmqKeysSecret is set.\nRemove one of them." -}}
{{- end -}}
{{- if not (or $gateway.zmqInsecure $gateway.zmqKeysSecret) -}}
  {{- fail "\n\nZeroMQ clients need keys.\nMake them with:\n  pipespec keys new FOLDER --servers 1 --name NAME --kubernetes-secret pipespec-zmq | kubectl apply --namespace NAMESPACE --filename -\nand set gateway.zmqKeysSecret to pipespec-zmq-server; or set gateway.zmqInsecure to true." -}}
{{- end -}}
{{- if and .Values.tests.zmqKeysSecret (not $gateway.zmqKeysSecret) -}}
  {{- fail "\n\ntests.zmqKeysSecret is set, but gateway.zmqKeysSecret is not: the gateways ask for no key.\nRemove it." -}}
{{- end -}}
{{- end -}}
