"""A small version of the comparison: the goal is kept, with fewer GPU-hours than HPA on utilisation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.autoscaling.comparison import Row
from benchmarks.autoscaling.fleets import pair
from benchmarks.autoscaling.hpa import Hpa, by_utilisation
from benchmarks.autoscaling.loads import RECORDED, Load, all_loads, recorded
from benchmarks.autoscaling.policies import Fixed, Ours
from benchmarks.autoscaling.report import document, draw, line
from benchmarks.autoscaling.run import Cluster, Run
from benchmarks.autoscaling.speeds import Speeds, loaded, simulated

GOAL_MS = 90.0
HOUR = Load("an hour", ((1200.0, 0.5), (1200.0, 3.0), (1200.0, 0.5)))


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    rows = json.loads((RECORDED / "speeds-pair.json").read_text(encoding="utf-8"))
    return Cluster(pair(), loaded(rows), GOAL_MS)


def test_the_goal_is_kept_with_fewer_gpu_hours_than_on_utilisation(cluster: Cluster, tmp_path: Path) -> None:
    mine = Run(cluster, HOUR, Ours(cluster.pipeline, goal_ms=GOAL_MS)).play()
    theirs = Run(cluster, HOUR, Hpa(cluster.pipeline, by_utilisation, (0.8, 0.8))).play()
    assert mine.kept_share >= 0.9
    assert mine.gpu_hours < 0.75 * theirs.gpu_hours
    assert mine.sessions == pytest.approx(theirs.sessions, rel=0.01)
    rows = [Row("an hour", "ours", mine), Row("an hour", "HPA, busy 80%", theirs)]
    assert line(rows[0]).startswith("| an hour | ours | ")
    assert json.loads(json.dumps(document(rows)))[0]["gpu_hours"] == round(mine.gpu_hours, 2)
    draw(rows, tmp_path / "autoscale.svg")
    assert "an hour" in (tmp_path / "autoscale.svg").read_text()


def test_a_fleet_that_never_changes_costs_its_gpus_and_loses_no_session(cluster: Cluster) -> None:
    outcome = Run(cluster, HOUR, Fixed((2, 3))).play()
    # One of each is there from the beginning, the others are asked for at once.
    assert outcome.gpu_hours == pytest.approx(2 * 1 + 3 * 2, rel=0.01)
    arrived = sum(1 for _ in HOUR.arrivals())
    assert outcome.sessions == pytest.approx(arrived, abs=60)  # but for those that are open at the end


def test_a_fleet_that_is_there_from_the_beginning_refuses_nobody_that_it_has_room_for(
    cluster: Cluster,
) -> None:
    assert Run(cluster, Load("at once", ((300.0, 3.0),)), Fixed((2, 3)), replicas=(2, 3)).play().refused == 0
    assert Run(cluster, Load("at once", ((300.0, 3.0),)), Fixed((2, 3))).play().refused > 0


def test_the_same_load_gives_the_same_outcome(cluster: Cluster) -> None:
    short = Load("ten minutes", ((300.0, 0.5), (300.0, 3.0)))
    outcomes = [Run(cluster, short, Ours(cluster.pipeline, goal_ms=GOAL_MS)).play() for _ in range(2)]
    assert outcomes[0] == outcomes[1]


def test_who_finds_no_target_asks_again_and_is_served(cluster: Cluster) -> None:
    burst = Load("burst", ((20.0, 10.0), (300.0, 0.0)))
    outcome = Run(cluster, burst, Fixed((1, 1))).play()
    assert outcome.refused > 0
    assert outcome.kept_waiting < outcome.kept  # who has waited is later than its speed says
    assert outcome.sessions == sum(1 for _ in burst.arrivals())


def test_the_table_of_speeds_is_what_the_simulator_says(cluster: Cluster) -> None:
    for shares in ((0, 4), (4, 4)):
        assert simulated(cluster.pipeline, shares).ms_per_token == pytest.approx(
            cluster.speeds.of(shares).ms_per_token, rel=1e-3
        )


def test_between_points_of_the_table_speeds_are_between(cluster: Cluster) -> None:
    speeds: Speeds = cluster.speeds
    assert speeds.of((4, 8)).ms_per_token < speeds.of((6, 11)).ms_per_token < speeds.of((16, 16)).ms_per_token


def test_recorded_loads_have_as_many_requests_as_the_recordings() -> None:
    for name, count in (("azure-conv", 19_366), ("azure-code", 8_819)):
        arrived = sum(1 for _ in recorded(name).arrivals())
        assert arrived == pytest.approx(count, rel=0.03)
    assert len({load.name for load in all_loads()}) == 5
