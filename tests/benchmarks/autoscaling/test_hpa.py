"""HPA as its controller computes: ratio, tolerance, pods that are not ready, stabilisation, how fast it may grow."""

from __future__ import annotations

from benchmarks.autoscaling.hpa import StageHpa, by_sessions, by_utilisation

from pipespec.planner.scaling.load import StageUse


def test_replicas_follow_the_ratio_and_not_within_a_tenth_of_the_target() -> None:
    assert by_utilisation(StageUse(4, 4, busy=0.9), 0.5) == 8
    assert by_utilisation(StageUse(4, 4, busy=0.54), 0.5) == 4
    assert by_sessions(StageUse(4, 4, sessions=45), 10) == 5
    assert by_sessions(StageUse(4, 4, sessions=43), 10) == 4


def test_pods_that_are_not_ready_count_as_idle_on_the_way_up() -> None:
    assert by_utilisation(StageUse(2, 8, busy=1.0), 0.5) == 8


def test_down_to_the_largest_wish_of_five_minutes() -> None:
    hpa = StageHpa(by_sessions, 10, 1, 32)
    wishes = [hpa.decide(15.0 * n, StageUse(8, 8, sessions=80 if n == 0 else 10)) for n in range(22)]
    assert wishes[:20] == [8] * 20
    assert wishes[21] == 1


def test_up_by_four_pods_or_the_double_at_a_time() -> None:
    assert StageHpa(by_sessions, 1, 1, 100).decide(0, StageUse(2, 2, sessions=80)) == 6
    assert StageHpa(by_sessions, 1, 1, 100).decide(0, StageUse(20, 20, sessions=80)) == 40
    assert StageHpa(by_sessions, 1, 1, 30).decide(0, StageUse(20, 20, sessions=80)) == 30
