"""What the planner warns of: drafts that cannot pay, goals that cannot be kept, rooms that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from cli.cluster.test_footprint import config, gateway, workload
from pipespec.cli.cluster.advice import Advice, advise
from pipespec.cli.cluster.footprint import footprint_of
from pipespec.ops.pipeline import parse_pipeline

TARGET = {"kind": "emulated", "emulation": {"latency_ms": {1: 50, 9: 55}}}
GPU = {"nvidia.com/gpu": 1}


def draft(agreement: float, ms: float = 5, **settings: Any) -> dict[str, Any]:
    return {"kind": "emulated", "emulation": {"latency_ms": {1: ms}, "agreement": agreement}, **settings}


def advice(
    first: dict[str, Any], *, target: dict[str, Any] = TARGET, replicas: int = 2, **more: Any
) -> Advice:
    objects = [
        config([first, target], brokers=[{"publish_port": 1}, {"publish_port": 2}], **more),
        workload("p-draft", limits=GPU),
        workload("p-target", replicas=replicas, limits=GPU),
        gateway(2),
    ]
    return advise(footprint_of(objects), None)


def test_a_chain_that_pays_has_its_speed_and_nothing_to_warn_of() -> None:
    found = advice(draft(0.9, lookahead=16, max_sessions=128))
    assert found.warnings == ()
    assert found.comparison is not None
    assert found.comparison.as_given.speed_up > 2
    assert [one.sessions for one in found.expected] == [2, 8, 32]
    assert found.expected[-1].tokens_per_s > 4 * found.expected[0].tokens_per_s


def test_a_draft_that_cannot_pay_is_named_with_what_it_costs() -> None:
    (warning, _) = advice(draft(0.05, ms=45, max_sessions=128)).warnings
    assert "stage 0" in warning
    assert "cannot pay" in warning
    assert "saves 1 GPU" in warning


def test_a_goal_that_no_replicas_can_keep_is_told() -> None:
    found = advice(draft(0.9, lookahead=16, max_sessions=128), autoscaler={"goal_ms": 4})
    assert ["no number of replicas" in warning for warning in found.warnings] == [True]


def test_a_target_that_stands_alone_and_rooms_that_do_not_fit_are_told() -> None:
    found = advice(draft(0.9, lookahead=16, max_sessions=2), target=TARGET | {"max_sessions": 20}, replicas=1)
    text = "\n".join(found.warnings)
    assert "the target has one replica" in text
    assert "take 128 sessions, the target's replicas hold 20" in text
    assert "holds 2 sessions, the target 20" in text


def test_without_a_profile_nothing_is_said_of_the_speed_of_models() -> None:
    models = [{"kind": "suffix"}, {"model": "org/big"}]
    objects = [config(models), workload("p-draft"), workload("p-target"), gateway(1)]
    found = advise(footprint_of(objects), None)
    assert (found.comparison, found.expected) == (None, ())
    profile = parse_pipeline({"stages": [draft(0.9), TARGET]}, source="profile")
    assert advise(footprint_of(objects), profile).comparison is not None


@pytest.mark.parametrize("lookahead", [1, 64])
def test_lookaheads_that_cost_time_are_told(lookahead: int) -> None:
    dear = {"kind": "emulated", "emulation": {"latency_ms": {1: 50, 64: 200}}}
    found = advice(draft(0.7, ms=1, lookahead=lookahead, max_sessions=128), target=dear)
    assert any("lookaheads cost" in warning for warning in found.warnings)
