"""What a rendered release takes of a cluster: its pipeline, replicas, GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageSettings, parse_pipeline

PIPELINE_KEY = "pipeline.yaml"
_SCALERS = {"HorizontalPodAutoscaler": "minReplicas", "ScaledObject": "minReplicaCount"}
_MOST = {"HorizontalPodAutoscaler": "maxReplicas", "ScaledObject": "maxReplicaCount"}


@dataclass(frozen=True, slots=True)
class StageFootprint:
    """One stage.

    Attributes:
        workload: its StatefulSet.
        least: replicas.
        most: replicas, more than ``least`` where something scales them.
        accelerators: of one replica, by resource name; empty on CPU.
        scaler: what changes the replicas, ``""`` for nothing.
    """

    workload: str
    least: int
    most: int
    accelerators: dict[str, int]
    scaler: str

    @property
    def num_accelerators(self) -> int:
        """Of one replica, of all kinds."""
        return sum(self.accelerators.values())


def what_runs(stage: StageSettings) -> str:
    """For tables: the model, what is emulated, or the kind."""
    emulated = stage.emulation.stands_for if stage.emulation is not None else None
    return stage.model or emulated or stage.kind.value


@dataclass(frozen=True, slots=True)
class Footprint:
    """A release.

    Attributes:
        pipeline: that its services read.
        stages: from the smallest to the target.
        gateways: replicas, at least.
        brokers: replicas.
        profile: that the autoscaler has, where the release brings it.
    """

    pipeline: Pipeline
    stages: tuple[StageFootprint, ...]
    gateways: int
    brokers: int
    profile: Pipeline | None = None


def footprint_of(objects: Sequence[dict[str, Any]]) -> Footprint:
    """Read a release's objects.

    Raises:
        SettingsError: its pipeline file is missing or cannot be used, or a stage's StatefulSet is missing.
    """
    pipeline = _pipeline(objects)
    if pipeline.kubernetes is None:
        raise SettingsError("the release's pipeline file does not say which StatefulSets its stages are")
    by_name = {one["metadata"]["name"]: one for one in objects if one.get("kind") == "StatefulSet"}
    missing = [name for name in pipeline.kubernetes.workloads if name not in by_name]
    if missing:
        raise SettingsError(
            f"the release has no StatefulSet {', '.join(missing)}, which its pipeline file names"
        )
    stages = [
        _stage(by_name[name], pipeline, rank, objects)
        for rank, name in enumerate(pipeline.kubernetes.workloads)
    ]
    gateways = [one for one in objects if one.get("kind") == "Deployment" and _component(one) == "gateway"]
    return Footprint(
        pipeline,
        tuple(stages),
        gateways=sum(_range(one, objects).least for one in gateways),
        brokers=len(pipeline.brokers),
        profile=_profile(pipeline, objects),
    )


def _component(one: dict[str, Any]) -> str:
    return str(one["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _pipeline(objects: Iterable[dict[str, Any]]) -> Pipeline:
    for one in objects:
        text = (one.get("data") or {}).get(PIPELINE_KEY) if one.get("kind") == "ConfigMap" else None
        if text is not None:
            return parse_pipeline(yaml.safe_load(text), source=f"{one['metadata']['name']}/{PIPELINE_KEY}")
    raise SettingsError(f"no ConfigMap of the release holds a {PIPELINE_KEY}: is this PipeSpec's chart?")


def _profile(pipeline: Pipeline, objects: Iterable[dict[str, Any]]) -> Pipeline | None:
    """The autoscaler's, where a ConfigMap of the release holds it."""
    if pipeline.autoscaler is None or pipeline.autoscaler.profile is None:
        return None
    key = pipeline.autoscaler.profile.name
    for one in objects:
        text = (one.get("data") or {}).get(key) if one.get("kind") == "ConfigMap" else None
        if text is not None:
            return parse_pipeline(yaml.safe_load(text), source=f"{one['metadata']['name']}/{key}")
    return None


class _Range(NamedTuple):
    least: int
    most: int
    scaler: str


def _range(workload: dict[str, Any], objects: Iterable[dict[str, Any]]) -> _Range:
    """Replicas of a workload, as it says itself or as what scales it from outside says."""
    for one in objects:
        kind = one.get("kind", "")
        if kind not in _SCALERS:
            continue
        scaled = one["spec"]["scaleTargetRef"]
        if (scaled["kind"], scaled["name"]) == (workload["kind"], workload["metadata"]["name"]):
            scaler = "hpa" if kind == "HorizontalPodAutoscaler" else "keda"
            return _Range(one["spec"].get(_SCALERS[kind], 1), one["spec"].get(_MOST[kind], 100), scaler)
    replicas = workload["spec"].get("replicas", 1)
    return _Range(replicas, replicas, "")


def _stage(
    workload: dict[str, Any], pipeline: Pipeline, rank: int, objects: Iterable[dict[str, Any]]
) -> StageFootprint:
    replicas, scaling = _range(workload, objects), pipeline.stages[rank].scaling
    if scaling is not None:
        replicas = _Range(scaling.min_replicas, scaling.max_replicas, "pipespec")
    name, accelerators = workload["metadata"]["name"], _accelerators(workload)
    return StageFootprint(name, replicas.least, replicas.most, accelerators, replicas.scaler)


def _accelerators(workload: dict[str, Any]) -> dict[str, int]:
    """Extended resources have a domain in their names, such as ``nvidia.com/gpu``."""
    found: dict[str, int] = {}
    for container in workload["spec"]["template"]["spec"]["containers"]:
        for resource, count in container.get("resources", {}).get("limits", {}).items():
            if "/" in resource:
                found[resource] = found.get(resource, 0) + int(count)
    return found
