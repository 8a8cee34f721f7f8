"""Telemetry: rates from heartbeats, through restarts, repeats and silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipespec.protocol.ids import Incarnation, Rank, Topic, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Echo, Envelope, GatewayHeartbeat, Heartbeat, StageCounters
from pipespec.protocol.telemetry import Telemetry
from protocol.examples import MESSAGES

STAGE, GATEWAY = stage_inbox(Rank(2), "r1"), gateway_inbox("g0")
BEAT, GATEWAY_BEAT = MESSAGES["heartbeat"][1], MESSAGES["gateway_heartbeat"][1]
assert isinstance(BEAT, Heartbeat)
assert isinstance(GATEWAY_BEAT, GatewayHeartbeat)


class Fleet:
    """Says heartbeats to a telemetry."""

    def __init__(self) -> None:
        self.telemetry = Telemetry(dead_s=2.0, window_s=5.0)

    def stage(
        self, now: float, number: int, *, incarnation: int = 1, topic: Topic = STAGE, **counters: int
    ) -> None:
        beat = replace(BEAT, counters=StageCounters(**counters))
        self.telemetry.on_envelope(now, Envelope(topic, Incarnation(incarnation), number, beat))

    def gateway(self, now: float, number: int, **changes: int) -> None:
        beat = replace(GATEWAY_BEAT, **changes)  # type: ignore[arg-type]
        self.telemetry.on_envelope(now, Envelope(GATEWAY, Incarnation(1), number, beat))


def test_rates_are_differences_of_counters_over_the_window() -> None:
    fleet = Fleet()
    for second in range(20):
        fleet.stage(
            second,
            second + 1,
            busy_us=400_000 * second,
            steps=10 * second,
            checked=8 * second,
            accepted=6 * second,
        )
    (reading,) = fleet.telemetry.stages(19.5)
    assert (reading.window_s, reading.age_s) == (5.0, 0.5)
    assert (reading.busy, reading.steps_per_s) == (pytest.approx(0.4), 10.0)
    assert (reading.checked_per_s, reading.accepted_per_s) == (8.0, 6.0)


def test_before_the_second_heartbeat_there_are_no_rates() -> None:
    fleet = Fleet()
    fleet.stage(0.0, 1)
    fleet.gateway(0.0, 1)
    (stage,), (gateway,) = fleet.telemetry.stages(0.0), fleet.telemetry.gateways(0.0)
    assert (stage.busy, gateway.tokens_per_s) == (None, None)


def test_a_silent_replica_is_left_out() -> None:
    fleet = Fleet()
    fleet.stage(0.0, 1)
    assert len(fleet.telemetry.stages(2.0)) == 1
    assert fleet.telemetry.stages(2.1) == []


def test_a_restarted_replica_starts_with_new_counters_once_its_former_self_is_silent() -> None:
    fleet = Fleet()
    fleet.stage(0.0, 1, steps=1000)
    fleet.stage(1.0, 1, incarnation=2, steps=1)  # the former one still counts as alive
    fleet.stage(3.0, 2, incarnation=2, steps=2)
    fleet.stage(4.0, 3, incarnation=2, steps=5)
    (reading,) = fleet.telemetry.stages(4.0)
    assert reading.steps_per_s == 3.0


def test_repeats_and_late_heartbeats_change_nothing() -> None:
    fleet = Fleet()
    fleet.stage(0.0, 1, steps=0)
    fleet.stage(1.0, 3, steps=30)
    fleet.stage(1.5, 3, steps=30)
    fleet.stage(1.5, 2, steps=20)
    (reading,) = fleet.telemetry.stages(1.5)
    assert (reading.window_s, reading.steps_per_s) == (1.0, 30.0)


def test_milliseconds_per_token_are_what_sessions_waited_between_their_commits() -> None:
    fleet = Fleet()
    fleet.gateway(0.0, 1, tokens=0, followed=0, followed_us=0, refused=0)
    fleet.gateway(2.0, 2, tokens=50, followed=40, followed_us=1_600_000, refused=4)
    (reading,) = fleet.telemetry.gateways(2.0)
    assert (reading.tokens_per_s, reading.refused_per_s) == (25.0, 2.0)
    assert (reading.followed_per_s, reading.ms_per_token) == (20.0, 40.0)


def test_without_tokens_there_is_no_time_per_token() -> None:
    fleet = Fleet()
    fleet.gateway(0.0, 1)
    fleet.gateway(1.0, 2)
    assert fleet.telemetry.gateways(1.0)[0].ms_per_token is None


def test_readings_are_sorted_and_other_messages_ignored() -> None:
    fleet = Fleet()
    fleet.stage(0.0, 1, topic=stage_inbox(Rank(2), "r2"))
    fleet.stage(0.0, 1, topic=stage_inbox(Rank(2), "r1"))
    fleet.telemetry.on_envelope(0.0, Envelope(STAGE, Incarnation(1), 9, Echo(1)))
    assert len(fleet.telemetry.stages(0.0)) == 2
