"""Every key of the pipeline file can be set among the values, and arrives as it was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from chart.release import CHART, render
from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.pipeline import GatewaySettings, LogSettings, StageSettings, TimerSettings

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(part.capitalize() for part in others)


def _values(settings: Any, *, without: set[str]) -> dict[str, Any]:
    """Every key of a settings object, as values."""
    return {
        _camel(key): value
        for key, value in settings.model_dump(mode="json").items()
        if key not in without and value is not None
    }


def test_every_key_of_a_stage_is_in_the_schema() -> None:
    keys = {_camel(key) for key in StageSettings.model_fields} - {"scaling"}
    for name in ("stage", "stageDefaults"):
        assert keys <= set(SCHEMA["definitions"][name]["properties"])


def test_keys_of_pods_are_no_keys_of_the_pipeline_file() -> None:
    pods = set(SCHEMA["properties"]["podDefaults"]["properties"]) | {"index", "accelerator", "autoscaling"}
    for settings in (StageSettings, GatewaySettings, AutoscalerSettings):
        assert not pods & {_camel(key) for key in settings.model_fields}


def test_a_stage_arrives_with_all_its_keys() -> None:
    stage = StageSettings(
        model="a/b", revision="main", device="cuda", dtype="bfloat16", threads=3, lookahead=7, wait_ms=12.5,
        max_sessions=100_000, prefill_chunk=1_000_000, step_tokens=1_000_000, max_batch=12, cache_gib=1.5,
        drain_timeout_s=7.25, min_match=5,
    )  # fmt: skip
    values = _values(stage, without={"replicas", "scaling", "emulation"})
    document = {"stages": {"target": {"index": 0, **values}}, "gateway": {"insecure": True}}
    release = render("", values=yaml.safe_dump(document))
    assert release.pipeline.target == stage


def test_an_emulated_stage_arrives_with_all_its_keys() -> None:
    emulation = {
        "latencyMs": {1: 0.00001, 10: 5, 1_000_000: 3_600_000.0},
        "sessionMs": 0.125,
        "agreement": 0.5,
        "agreementBeyond": {1: 0.25},
        "standsFor": '8B: "quoted" <&> ünïcode # no comment',
        "jitter": 0.5,
        "contextLen": 100_000_000,
    }
    target = {"latencyMs": {1: 9}, "seed": 2**53 - 1}
    stages = {
        "a": {"index": 0, "kind": "emulated", "emulation": emulation},
        "b": {"index": 1, "kind": "emulated", "emulation": {"latencyMs": {1: 2}, "agreement": 1}},
        "c": {"index": 2, "kind": "emulated", "emulation": target},
    }
    first, _, last = render(
        "", values=yaml.safe_dump({"stages": stages, "gateway": {"insecure": True}})
    ).pipeline.stages
    assert first.emulation is not None
    assert last.emulation is not None
    assert {
        _camel(key): value for key, value in first.emulation.model_dump().items() if value is not None
    } == emulation
    assert last.emulation.seed == 2**53 - 1


@pytest.mark.parametrize("major", [3, 4])
def test_gateway_timers_and_logs_arrive_with_all_their_keys(major: int) -> None:
    gateway = GatewaySettings(
        host="0.0.0.0", insecure=True, grpc_max_streams=7, http_port=81, grpc_port=82, zmq_port=83, metrics_port=9090, grpc_reflection=True,  # noqa: S104
        model_name="m", max_sessions=100_000, default_max_tokens=12_345_678, request_timeout_s=3599.5,
        drain_delay_s=2.5, drain_timeout_s=3600, zmq_insecure=True,
    )  # fmt: skip
    timers = TimerSettings(
        heartbeat_ms=50, dead_ms=999, stall_ms=600_000, prefill_ms_per_token=0.5, lease_ms=600_000
    )
    log = LogSettings(level="debug", format="json")
    values = {
        "gateway": _values(gateway, without={"host", "metrics_port"}),
        "timers": _values(timers, without=set()),
        "log": _values(log, without=set()),
    }
    pipeline = render("emulated", values=yaml.safe_dump(values), major=major).pipeline
    assert (pipeline.gateway, pipeline.timers, pipeline.log) == (gateway, timers, log)


def test_the_autoscaler_arrives_with_all_its_keys() -> None:
    settings = AutoscalerSettings(
        goal_ms=12.5, interval_s=1.5, headroom=0, start_s=3600, up_wait_s=1, down_wait_s=86_400, dry_run=True,
        host="0.0.0.0", metrics_port=9090,  # noqa: S104 - in a pod
    )  # fmt: skip
    values = {"autoscaler": _values(settings, without={"host", "metrics_port"})}
    assert render("autoscaled", values=yaml.safe_dump(values)).pipeline.autoscaler == settings


def test_scaling_is_what_autoscaling_says() -> None:
    scaling = [stage.scaling for stage in render("autoscaled").pipeline.stages]
    assert [(one.min_replicas, one.max_replicas, one.gpus) for one in scaling if one] == [
        (0, 8, 1),
        (1, 16, 2),
    ]


def test_a_profile_is_mounted_where_the_pipeline_file_says() -> None:
    release = render("autoscaled", "autoscaler.profile=stages: measured")
    assert release.pipeline.autoscaler is not None
    assert release.of("ConfigMap")["demo-pipespec-autoscaler-profile"]["data"] == {
        "profile.yaml": "stages: measured\n"
    }
    pod = release.of("Deployment")["demo-pipespec-autoscaler"]["spec"]["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "profile")
    assert str(release.pipeline.autoscaler.profile) == f"{mount['mountPath']}/profile.yaml"


def test_ipv6_is_bound_where_it_is_asked_for() -> None:
    pipeline = render("cpu", values='bindAddress: "::"').pipeline
    assert {pipeline.gateway.host, pipeline.stage_host, *(broker.bind for broker in pipeline.brokers)} == {
        "::"
    }
