"""A rendered chart as pods: what the controllers of a cluster would make of its workloads.

podman runs Pods, and knows neither StatefulSets nor Deployments nor Services. What it does not understand is translated
here, in one place: probes are left out (the test asks instead), ports as well (podman would bind them on the machine),
emptyDirs become folders, fields of the pod and ``$(NAME)`` in arguments are filled in, and names of Services become entries
of each pod's hosts file.
"""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
RENDER_S = 60.0
POD_INDEX = "apps.kubernetes.io/pod-index"
TEST_HOOK = "helm.sh/hook"


@dataclass(frozen=True, slots=True)
class Workload:
    """A StatefulSet or a Deployment.

    Attributes:
        is_stateful: whether its pods have names of their own that outlive them.
    """

    name: str
    component: str
    replicas: int
    template: Manifest
    is_stateful: bool

    def pod(self, ordinal: int) -> Manifest:
        """Manifest of one of its pods. A Deployment's has a random name in a cluster; here it is numbered too."""
        template = copy.deepcopy(self.template)
        name = f"{self.name}-{ordinal}"
        metadata = {**template["metadata"], "name": name}
        if self.is_stateful:
            metadata["labels"] |= {POD_INDEX: str(ordinal)}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@dataclass(frozen=True, slots=True)
class Release:
    """What ``helm template`` printed."""

    documents: tuple[Manifest, ...]

    @classmethod
    def render(
        cls, helm: Path, chart: Path, values: Path, *, name: str, settings: Mapping[str, str]
    ) -> Release:
        """Render the chart.

        Args:
            helm: the program.
            chart: folder.
            values: a values file.
            name: of the release.
            settings: over the values, as of ``--set``.
        """
        command = [str(helm), "template", name, str(chart), "--values", str(values)]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=RENDER_S)
        return cls(tuple(document for document in yaml.safe_load_all(done.stdout) if document))

    def of_kind(self, *kinds: str) -> Iterable[Manifest]:
        """The documents of some kinds."""
        return (document for document in self.documents if document["kind"] in kinds)

    @property
    def workloads(self) -> dict[str, Workload]:
        """By component, brokers first: the order in which they are started here; any other would do."""
        found = [
            Workload(
                name=document["metadata"]["name"],
                component=document["metadata"]["labels"]["app.kubernetes.io/component"],
                replicas=document["spec"]["replicas"],
                template=document["spec"]["template"],
                is_stateful=document["kind"] == "StatefulSet",
            )
            for document in self.of_kind("StatefulSet", "Deployment")
        ]
        return {workload.component: workload for workload in sorted(found, key=lambda one: one.component)}

    @property
    def config_maps(self) -> tuple[Manifest, ...]:
        """What pods mount."""
        return tuple(self.of_kind("ConfigMap"))

    @property
    def test_pods(self) -> tuple[Manifest, ...]:
        """Hooks of ``helm test``."""
        pods = self.of_kind("Pod")
        return tuple(pod for pod in pods if TEST_HOOK in pod["metadata"].get("annotations", {}))

    @property
    def pipeline(self) -> Any:
        """The pipeline file that every service reads."""
        (text,) = (one["data"]["pipeline.yaml"] for one in self.config_maps if "pipeline.yaml" in one["data"])
        return yaml.safe_load(text)

    def hosts(self, addresses: Mapping[str, str]) -> dict[str, str]:
        """What a cluster's DNS would answer: addresses by name.

        Args:
            addresses: of pods, by name.
        """
        names: dict[str, str] = {}
        for service in self.of_kind("Service"):
            name, spec = service["metadata"]["name"], service["spec"]
            selector = spec["selector"]
            domain = f"{service['metadata']['namespace']}.svc.cluster.local"
            for workload in self.workloads.values():
                if not selector.items() <= workload.template["metadata"]["labels"].items():
                    continue
                for ordinal in range(workload.replicas):
                    pod = f"{workload.name}-{ordinal}"
                    if workload.is_stateful:
                        names[f"{pod}.{name}.{domain}"] = addresses[pod]
                    names.setdefault(name, addresses[pod])
                    names.setdefault(f"{name}.{domain}", addresses[pod])
        return names


def translate(pod: Manifest, *, folder: Path, hosts: Mapping[str, str]) -> Manifest:
    """The pod as podman runs it.

    Args:
        pod: as in a cluster.
        folder: where its emptyDirs are made.
        hosts: addresses by name.
    """
    pod = copy.deepcopy(pod)
    spec, name = pod["spec"], pod["metadata"]["name"]
    pod["metadata"].pop("annotations", None)  # podman takes them for labels, which are short
    spec["hostname"] = name
    spec["restartPolicy"] = "Never"  # the test is the controller
    spec["hostAliases"] = [{"ip": address, "hostnames": [host]} for host, address in hosts.items()]
    spec["volumes"] = [_volume(volume, folder / name) for volume in spec.get("volumes", [])]
    for container in spec["containers"]:
        for left_out in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(left_out, None)
        environment = {entry["name"]: _value(entry, pod["metadata"]) for entry in container.get("env", [])}
        container["env"] = [{"name": key, "value": value} for key, value in environment.items()]
        container["args"] = [_expand(argument, environment) for argument in container["args"]]
    return pod


def _value(entry: Manifest, metadata: Manifest) -> str:
    """Value of an environment variable; of the downward API what the chart uses."""
    if "value" in entry:
        return str(entry["value"])
    path = entry["valueFrom"]["fieldRef"]["fieldPath"]
    label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
    return str(metadata["labels"][label[1]] if label else {"metadata.name": metadata["name"]}[path])


def _expand(argument: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda name: environment.get(name[1], name[0]), argument)


def _volume(volume: Manifest, folder: Path) -> Manifest:
    if "emptyDir" not in volume:
        return volume
    path = folder / volume["name"]
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)  # as kubelet makes them
    return {"name": volume["name"], "hostPath": {"path": str(path), "type": "Directory"}}
