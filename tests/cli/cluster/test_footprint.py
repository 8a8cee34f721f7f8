"""What a release takes: read from the objects that Helm renders."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipespec.cli.cluster.footprint import footprint_of, what_runs
from pipespec.cli.cluster.report import gpus_needed
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import StageSettings

STAGES = [
    {"kind": "emulated", "emulation": {"latency_ms": {1: 5}, "agreement": 0.8}},
    {"kind": "emulated", "emulation": {"latency_ms": {1: 50}}},
]


def config(stages: list[dict[str, Any]] = STAGES, **more: Any) -> dict[str, Any]:
    document = {
        "stages": stages,
        "kubernetes": {"namespace": "n", "workloads": ["p-draft", "p-target"]},
        **more,
    }
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "p"},
        "data": {"pipeline.yaml": yaml.safe_dump(document)},
    }


def workload(name: str, *, replicas: int | None = 1, limits: dict[str, Any] | None = None) -> dict[str, Any]:
    template = {"spec": {"containers": [{"resources": {"limits": {"cpu": "2", **(limits or {})}}}]}}
    spec: dict[str, Any] = {"template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}


def gateway(replicas: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "gateway"}
    return {
        "kind": "Deployment",
        "metadata": {"name": "p-gateway", "labels": labels},
        "spec": {"replicas": replicas},
    }


def test_gpus_are_what_all_replicas_of_all_stages_take() -> None:
    target = workload("p-target", replicas=2, limits={"nvidia.com/gpu": "4"})
    footprint = footprint_of(
        [config(), workload("p-draft", limits={"nvidia.com/gpu": 1}), target, gateway(3)]
    )
    assert gpus_needed(footprint) == (9, 9)
    assert (footprint.gateways, footprint.brokers) == (3, 1)


def test_a_stage_that_our_autoscaler_scales_has_the_range_of_its_settings() -> None:
    scaling = {"min_replicas": 0, "max_replicas": 3}
    stages = [STAGES[0] | {"scaling": scaling}, STAGES[1]]
    draft = workload("p-draft", replicas=None, limits={"amd.com/gpu": 1})
    footprint = footprint_of([config(stages), draft, workload("p-target")])
    assert (footprint.stages[0].least, footprint.stages[0].most, footprint.stages[0].scaler) == (
        0,
        3,
        "pipespec",
    )
    assert gpus_needed(footprint) == (0, 3)


@pytest.mark.parametrize(
    ("kind", "spec", "scaler"),
    [
        ("HorizontalPodAutoscaler", {"minReplicas": 2, "maxReplicas": 5}, "hpa"),
        ("ScaledObject", {"minReplicaCount": 2, "maxReplicaCount": 5}, "keda"),
    ],
)
def test_a_stage_that_something_else_scales_has_its_range(
    kind: str, spec: dict[str, Any], scaler: str
) -> None:
    scales = {
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "p-draft"}, **spec},
    }
    footprint = footprint_of([config(), workload("p-draft", replicas=None), workload("p-target"), scales])
    stage = footprint.stages[0]
    assert (stage.least, stage.most, stage.scaler) == (2, 5, scaler)


def test_a_gateway_that_is_scaled_has_at_least_what_its_scaler_says() -> None:
    deployment = gateway(1)
    del deployment["spec"]["replicas"]
    target = {"kind": "Deployment", "name": "p-gateway"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
    hpa = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": spec}
    assert footprint_of([config(), workload("p-draft"), workload("p-target"), deployment, hpa]).gateways == 2


def test_the_profile_that_the_autoscaler_gets_is_read_too() -> None:
    profile = {
        "kind": "ConfigMap",
        "metadata": {"name": "p-profile"},
        "data": {"fast.yaml": yaml.safe_dump({"stages": STAGES})},
    }
    scaled = config(autoscaler={"goal_ms": 40, "profile": "/etc/pipespec/profile/fast.yaml"})
    objects = [scaled, profile, workload("p-draft"), workload("p-target")]
    found = footprint_of(objects).profile
    assert found is not None
    assert len(found.stages) == 2
    assert footprint_of([one for one in objects if one is not profile]).profile is None


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ({"kind": "suffix"}, "suffix"),
        ({"model": "org/big"}, "org/big"),
        ({"kind": "emulated", "emulation": {"latency_ms": {1: 5}, "stands_for": "8B"}}, "8B"),
        ({"kind": "emulated", "emulation": {"latency_ms": {1: 5}}}, "emulated"),
    ],
)
def test_every_kind_of_stage_has_a_name_for_tables(stage: dict[str, Any], shown: str) -> None:
    assert what_runs(StageSettings.model_validate(stage)) == shown


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([workload("p-draft")], "is this PipeSpec's chart"),
        ([config(), workload("p-draft")], "no StatefulSet p-target"),
        ([config(kubernetes=None)], "which StatefulSets"),
    ],
)
def test_what_is_no_release_of_the_chart_is_refused(objects: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        footprint_of(objects)
