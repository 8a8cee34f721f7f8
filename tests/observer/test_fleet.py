"""The view of a fleet: sums and means of its replicas, and nothing invented where nothing is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipespec.observer.fleet import fleet_view
from pipespec.protocol.ids import Incarnation, Rank, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Envelope, GatewayHeartbeat, Heartbeat, StageCounters
from pipespec.protocol.telemetry import Telemetry
from protocol.examples import MESSAGES

BEAT, GATEWAY_BEAT = MESSAGES["heartbeat"][1], MESSAGES["gateway_heartbeat"][1]
assert isinstance(BEAT, Heartbeat)
assert isinstance(GATEWAY_BEAT, GatewayHeartbeat)


def say(telemetry: Telemetry, now: float, name: str, *, ready: bool = True, **counters: int) -> None:
    sender = stage_inbox(Rank(1), name)
    beat = replace(
        BEAT, rank=Rank(1), replica=name, ready=ready, draining=not ready, counters=StageCounters(**counters)
    )
    telemetry.on_envelope(now, Envelope(sender, Incarnation(1), int(now) + 1, beat))


def say_gateway(telemetry: Telemetry, now: float, name: str, **counters: int) -> None:
    beat = replace(GATEWAY_BEAT, replica=name, **counters)  # type: ignore[arg-type]
    telemetry.on_envelope(now, Envelope(gateway_inbox(name), Incarnation(1), int(now) + 1, beat))


def test_a_stage_is_the_sum_of_its_replicas_and_the_mean_of_how_busy_they_are() -> None:
    telemetry = Telemetry(dead_s=2.0)
    for now in (0, 1):
        say(telemetry, now, "a", steps=10 * now, checked=30 * now, accepted=30 * now, busy_us=200_000 * now)
        say(telemetry, now, "b", ready=False, steps=5 * now, checked=10 * now, busy_us=600_000 * now)
    view = fleet_view(telemetry, 1.0, num_stages=2)
    stage = view.stages[1]
    assert (stage.replicas, stage.ready, stage.draining) == (2, 1, 1)
    assert (stage.sessions, stage.max_sessions) == (2 * BEAT.sessions, 2 * BEAT.max_sessions)
    assert (stage.steps_per_s, stage.acceptance, stage.busy) == (15.0, 0.75, pytest.approx(0.4))
    assert [row.name for row in view.replicas] == ["a", "b"]


def test_a_stage_of_which_nobody_lives_is_shown_empty() -> None:
    stage = fleet_view(Telemetry(dead_s=2.0), 1.0, num_stages=2).stages[0]
    assert (stage.replicas, stage.busy, stage.acceptance, stage.tokens_per_s) == (0, None, None, None)


def test_time_per_token_weighs_gateways_by_their_tokens() -> None:
    telemetry = Telemetry(dead_s=2.0)
    for now in (0, 1):
        say_gateway(telemetry, now, "g0", tokens=30 * now, followed=30 * now, followed_us=300_000 * now)
        say_gateway(telemetry, now, "g1", tokens=10 * now, followed=10 * now, followed_us=500_000 * now)
    view = fleet_view(telemetry, 1.0, num_stages=1)
    assert (view.tokens_per_s, view.ms_per_token) == (40.0, pytest.approx(20.0))


def test_a_quiet_fleet_has_no_time_per_token_and_its_document_is_json() -> None:
    view = fleet_view(Telemetry(dead_s=2.0), 0.0, num_stages=1)
    assert (view.tokens_per_s, view.ms_per_token) == (None, None)
    assert json.loads(json.dumps(view.document()))["gateways"] == []
