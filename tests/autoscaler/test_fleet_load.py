"""What the planner is told is what the heartbeats say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.beats import gateway_beat, stage_beat
from pipespec.autoscaler.fleet_load import fleet_load
from pipespec.planner.scaling.load import FleetLoad
from pipespec.protocol.ids import Rank
from pipespec.protocol.telemetry import GatewayReading, StageReading

SPOKEN = StageReading(
    stage_beat(1, "r0", sessions=3), 0.1, 5.0, busy=0.5, accepted_per_s=30.0, rollbacks_per_s=10.0
)
WAITED = GatewayReading(
    gateway_beat(sessions=4), 0.1, 5.0, refused_per_s=0.6, followed_per_s=100.0, ms_per_token=10.0
)


def load(*readings: StageReading | GatewayReading, replicas: dict[Rank, int] | None = None) -> FleetLoad:
    return fleet_load(
        1.0,
        num_stages=2,
        stages=[one for one in readings if isinstance(one, StageReading)],
        gateways=[one for one in readings if isinstance(one, GatewayReading)],
        replicas=replicas or {},
    )


def test_a_stage_that_nobody_serves_has_nothing() -> None:
    assert (load().stages[0].ready, load().stages[0].asked, load().stages[0].busy) == (0, 0, None)


def test_replicas_that_drain_are_neither_ready_nor_asked_for() -> None:
    leaving = replace(SPOKEN, beat=replace(stage_beat(1, "r1", sessions=2), draining=True, ready=False))
    use = load(SPOKEN, leaving).stages[1]
    assert (use.ready, use.draining, use.asked, use.sessions) == (1, 1, 1, 5)


def test_one_that_loads_is_asked_for_and_not_ready() -> None:
    loading = StageReading(stage_beat(1, "r1", ready=False), 0.1)
    assert (load(loading).stages[1].ready, load(loading).stages[1].asked) == (0, 1)


def test_the_cluster_knows_best_what_was_asked_for() -> None:
    assert load(SPOKEN, replicas={Rank(1): 4}).stages[1].asked == 4


def test_business_is_a_mean_and_agreement_is_weighted() -> None:
    other = replace(SPOKEN, beat=stage_beat(1, "r1"), busy=0.9, accepted_per_s=0.0, rollbacks_per_s=40.0)
    use = load(SPOKEN, other).stages[1]
    assert use.busy == pytest.approx(0.7)
    assert use.agreement == pytest.approx(30 / 80)


def test_without_candidates_nothing_is_known_of_agreement() -> None:
    idle = StageReading(stage_beat(1, "r0"), 0.1, 5.0, busy=0.0, accepted_per_s=0.0, rollbacks_per_s=0.0)
    assert load(idle).stages[1].agreement is None


def test_gateways_are_added_up_and_their_tokens_weigh() -> None:
    other = replace(WAITED, beat=gateway_beat("g1", sessions=1), followed_per_s=300.0, ms_per_token=20.0)
    whole = load(WAITED, other)
    assert (whole.sessions, whole.refused) == (5, 6)
    assert whole.ms_per_token == pytest.approx(17.5)


def test_a_gateway_without_tokens_says_nothing_of_speed() -> None:
    assert load(replace(WAITED, followed_per_s=0.0, ms_per_token=None)).ms_per_token is None
