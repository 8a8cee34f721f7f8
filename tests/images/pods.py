"""Pods as podman runs them, out of pods as a cluster does.

What podman does not understand is translated here, in one place: probes are left out (the test asks instead), ports as well
(podman would bind them on the machine), emptyDirs become folders, fields of the pod and ``$(NAME)`` in arguments are filled in,
and what a cluster's DNS answers becomes each pod's hosts file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path

from chart.release import Manifest


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
