"""At most one candidate leads at any time, whatever the store and the network do. In virtual time."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipespec.kube.failure import CONFLICT, TIMEOUT, ApiFailure
from pipespec.kube.lease import Candidate, LeaseRecord, LeaseTimes
from pipespec.ops.errors import SettingsError

TIMES = LeaseTimes()


class World:
    """A clock, and a store that keeps versions, may be cut off, and may keep an answer back."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.record: LeaseRecord | None = None
        self.version = 0

    def candidate(self, name: str, *, clock_ahead: timedelta = timedelta()) -> Member:
        return Member(self, name, clock_ahead)


class Member:
    """A candidate with its own way to the store.

    Attributes:
        is_cut_off: nothing of what it asks arrives.
        is_deaf: what it writes arrives, the answer does not come.
    """

    def __init__(self, world: World, name: str, clock_ahead: timedelta) -> None:
        self.is_cut_off = False
        self.is_deaf = False
        self.takes_s = 0.0
        self._world = world
        self.candidate = Candidate(
            self,
            identity=name,
            times=TIMES,
            clock=lambda: world.now_s,
            now=lambda: datetime.fromtimestamp(world.now_s, UTC) + clock_ahead,
        )

    @property
    def leads(self) -> bool:
        return self.candidate.is_leading

    def turn(self) -> bool:
        """Whether it was answered."""
        try:
            self.candidate.turn()
        except ApiFailure:
            return False
        return True

    def read(self) -> LeaseRecord | None:
        self._ask()
        return self._world.record

    def create(self, record: LeaseRecord) -> LeaseRecord:
        return self._write(record, present="")

    def replace(self, record: LeaseRecord) -> LeaseRecord:
        return self._write(record, present=record.version)

    def _ask(self) -> None:
        self._world.now_s += self.takes_s
        if self.is_cut_off:
            raise ApiFailure("answer", code=TIMEOUT, reason="cut off")

    def _write(self, record: LeaseRecord, *, present: str) -> LeaseRecord:
        self._ask()
        world = self._world
        if present != (world.record.version if world.record else ""):
            raise ApiFailure("write", code=CONFLICT, reason="another one was faster")
        world.version += 1
        world.record = replace(record, version=str(world.version))
        if self.is_deaf:
            raise ApiFailure("answer", code=TIMEOUT, reason="deaf")
        return world.record


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_leads_and_the_second_waits(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    first.turn()
    second.turn()
    assert (first.leads, second.leads) == (True, False)
    assert second.candidate.leader == "first"


def test_whoever_renews_leads_on(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    for _ in range(100):
        first.turn()
        second.turn()
        assert (first.leads, second.leads) == (True, False)
        world.now_s += 9.0
    assert world.record is not None
    assert world.record.transitions == 0
    assert world.record.acquired_at < world.record.renewed_at


def test_a_leader_without_the_api_stops_before_another_begins(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    first.turn()
    second.turn()
    first.is_cut_off = True
    stopped_s = began_s = None
    while began_s is None and world.now_s < 2000.0:
        world.now_s += 0.5
        first.turn()
        second.turn()
        stopped_s = stopped_s or (None if first.leads else world.now_s)
        began_s = world.now_s if second.leads else None
    assert stopped_s == 1000.0 + TIMES.renew_deadline_s
    assert began_s == 1000.0 + TIMES.duration_s
    assert world.record is not None
    assert world.record.transitions == 1


def test_leading_ends_by_itself_when_the_thread_that_renews_is_stuck(world: World) -> None:
    first = world.candidate("first")
    first.turn()
    world.now_s += TIMES.renew_deadline_s
    assert not first.leads


def test_a_slow_renewal_counts_from_its_beginning(world: World) -> None:
    first = world.candidate("first")
    first.takes_s = 4.0
    first.turn()  # a read and a write
    assert first.leads
    world.now_s += TIMES.renew_deadline_s - 8.0
    assert not first.leads


def test_a_lease_that_is_given_back_is_free_at_once(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    first.turn()
    second.turn()
    first.candidate.release()
    second.turn()
    assert (first.leads, second.leads) == (False, True)


def test_only_the_leader_gives_it_back(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    first.turn()
    second.turn()
    second.candidate.release()
    assert world.record is not None
    assert world.record.holder == "first"


def test_leading_is_over_even_if_it_cannot_be_given_back(world: World) -> None:
    first = world.candidate("first")
    first.turn()
    first.is_cut_off = True
    with pytest.raises(ApiFailure):
        first.candidate.release()
    assert not first.leads


def test_clocks_need_not_agree(world: World) -> None:
    first = world.candidate("first", clock_ahead=timedelta(days=-3))
    second = world.candidate("second", clock_ahead=timedelta(days=3))
    for _ in range(20):
        first.turn()
        second.turn()
        assert (first.leads, second.leads) == (True, False)
        world.now_s += 5.0


def test_a_restarted_process_does_not_take_its_former_self_for_itself(world: World) -> None:
    world.candidate("pod-0_1").turn()
    again = world.candidate("pod-0_2")
    again.turn()
    assert not again.leads


def test_of_two_that_start_at_once_one_leads(world: World) -> None:
    first, second = world.candidate("first"), world.candidate("second")
    read, first.read = first.read, lambda: None  # type: ignore[method-assign] # it looked before the other one wrote
    second.turn()
    assert not first.turn()
    first.read = read  # type: ignore[method-assign]
    first.turn()
    assert (first.leads, second.leads) == (False, True)


def test_a_write_whose_answer_was_lost_is_recognized(world: World) -> None:
    first = world.candidate("first")
    first.is_deaf = True
    assert not first.turn()
    assert not first.leads
    first.is_deaf = False
    first.turn()
    assert first.leads
    assert world.record is not None
    assert world.record.transitions == 0


@pytest.mark.parametrize("times", [(10, 10.0, 2.0), (15, 10.0, 9.0), (15, 10.0, 0.0)])
def test_times_that_make_no_sense_are_refused(times: tuple[int, float, float]) -> None:
    with pytest.raises(SettingsError, match=r"renew_deadline_s > 1\.2 x retry_s"):
        LeaseTimes(*times)


MOVES = st.tuples(
    st.sampled_from(["turn", "turn", "turn", "cut off", "deaf", "well", "release", "slow"]),
    st.integers(0, 2),
    st.floats(0.0, 8.0),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MOVES, max_size=80))
def test_never_do_two_lead_at_once(moves: list[tuple[str, int, float]]) -> None:
    world = World()
    members = [world.candidate(name) for name in ("a", "b", "c")]
    for move, index, pause_s in moves:
        member = members[index]
        match move:
            case "turn":
                member.turn()
            case "release":
                with contextlib.suppress(ApiFailure):
                    member.candidate.release()
            case "slow":
                member.takes_s = pause_s
            case fault:
                member.is_cut_off, member.is_deaf = fault == "cut off", fault == "deaf"
                member.takes_s = 0.0
        assert sum(one.leads for one in members) <= 1
        world.now_s += pause_s
        assert sum(one.leads for one in members) <= 1
