"""A rendered release, and questions that tests ask of it. Rendering is remembered: many tests look at the same ones."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helm.tools import helm

from pipespec.cli.cluster.footprint import PIPELINE_KEY
from pipespec.ops.pipeline import Pipeline, parse_pipeline

CHART = Path(__file__).parents[2] / "helm" / "pipespec"
EXAMPLES = tuple(sorted(path.stem for path in (CHART / "examples").glob("*.yaml")))
MONITORING = tuple(
    f"monitoring.coreos.com/v1/{kind}" for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule")
)
POD_TEMPLATES = ("Deployment", "StatefulSet", "Job")
_TIMEOUT_S = 60

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm's words."""


@dataclass(frozen=True)
class Release:
    """Objects that Helm would create."""

    objects: tuple[Manifest, ...]

    def of(self, kind: str) -> dict[str, Manifest]:
        """Objects of a kind, by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    @property
    def pipeline(self) -> Pipeline:
        """The file that all services read, checked as they check it."""
        text = next(
            one["data"][PIPELINE_KEY] for one in self.of("ConfigMap").values() if PIPELINE_KEY in one["data"]
        )
        return parse_pipeline(yaml.safe_load(text), source="rendered")

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Each pod, or pod template, under a name that tells what it is of."""
        for one in self.objects:
            name = f"{one['kind']}/{one['metadata']['name']}"
            if one["kind"] == "Pod":
                yield name, one
            elif one["kind"] in POD_TEMPLATES:
                yield name, one["spec"]["template"]


@functools.cache
def render(
    example: str,
    *sets: str,
    major: int = 4,
    release: str = "demo",
    kube_version: str | None = None,
    api_versions: tuple[str, ...] = (),
    values: str = "",
) -> Release:
    """Render an example of the chart.

    Args:
        example: its name; empty for none, with a bus and a ZeroMQ edge in plain.
        sets: ``key=value`` as of ``--set``.
        major: version of Helm.
        release: its name.
        kube_version: of the cluster; Helm's own idea by default.
        api_versions: that the cluster has beside Kubernetes' own.
        values: further values, as YAML.

    Raises:
        Refused: Helm or the chart says no.
    """
    command = ["template", release, str(CHART)]
    if example:
        command += ["--values", str(CHART / "examples" / f"{example}.yaml")]
    else:
        command += ["--set", "bus.insecure=true,gateway.zmqInsecure=true,gateway.insecure=true"]
    if kube_version:
        command += ["--kube-version", kube_version]
    for one in sets:
        command += ["--set", one]
    for one in api_versions:
        command += ["--api-versions", one]
    if values:
        command += ["--values", "-"]
    text = run_helm(command, major=major, stdin=values)
    return Release(tuple(one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one))


def run_helm(arguments: list[str], *, major: int = 4, stdin: str = "") -> str:
    """What Helm prints.

    Raises:
        Refused: it fails.
    """
    command = [str(helm(major)), *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode != 0:
        raise Refused(f"{done.stdout}{done.stderr}")
    return done.stdout
