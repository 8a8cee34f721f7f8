"""The faults of a soak's broker: as many as asked for, and nothing is kept that was not to be."""

from __future__ import annotations

from random import Random

from benchmarks.soaking.faulty_broker import LATEST_S, Faults


def test_as_many_messages_are_hit_as_were_asked_for() -> None:
    faults = Faults(0.01, Random(1))
    passed = [faults.take(0.0, [b"m"]) for _ in range(20_000)]
    assert 150 < sum(faults.counts.values()) < 250
    assert passed.count(2) == faults.counts["twice"] > 0
    assert passed.count(0) == faults.counts["lost"] + faults.counts["late"]


def test_a_late_message_comes_once_when_its_time_has_come() -> None:
    faults = Faults(1.0, Random(2))
    late = [b"%d" % number for number in range(100) if faults.take(0.0, [b"%d" % number]) == 0]
    assert list(faults.due(0.0)) == []
    came = [frames[0] for frames in faults.due(LATEST_S)]
    assert len(came) == faults.counts["late"] > 0
    assert set(came) < set(late)
    assert list(faults.due(2 * LATEST_S)) == []
