"""Admission in virtual time: bounds, order, time-outs, and what is said to those that are sent away."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipespec.gateway.gate.ledger import Ledger, Limits, Place, Pool, Standing
from pipespec.ops.admission import AdmissionSettings
from pipespec.ops.errors import Overloaded, RequestError

LIMITS = Limits(sessions=2, tokens=100, num_bytes=1000, waiting=2, patience_s=1.0)


class World:
    """A ledger, a clock, and sessions that open at once when they may."""

    def __init__(self, limits: Limits = LIMITS, *, room: int = 100) -> None:
        self.ledger = Ledger(limits)
        self.now = 0.0
        self.room = room
        self.num_open = 0

    @property
    def pool(self) -> Pool:
        return Pool(self.num_open, self.room - self.num_open)

    def arrive(self, *, sessions: int = 1, tokens: int = 10, num_bytes: int = 10) -> Place:
        place = self.ledger.enter(self.now, self.pool, num_bytes=num_bytes)
        try:
            self.ledger.ask(self.now, self.pool, place, sessions=sessions, tokens=tokens)
        except RequestError:
            self.ledger.leave(self.now, place)
            raise
        return self._opened(place)

    def turn(self) -> list[Place]:
        return [self._opened(place) for place in self.ledger.turn(self.now, self.pool)]

    def leave(self, place: Place) -> None:
        if place.standing is Standing.ADMITTED:
            self.num_open -= place.sessions
        self.ledger.leave(self.now, place)

    def _opened(self, place: Place) -> Place:
        if place.standing is Standing.ADMITTED:
            self.num_open += place.sessions
            self.ledger.opened(place)
        return place


@pytest.fixture
def world() -> World:
    return World()


def test_a_request_for_which_there_is_room_does_not_wait(world: World) -> None:
    assert world.arrive().standing is Standing.ADMITTED


@pytest.mark.parametrize(
    ("first", "second"), [({"sessions": 2}, {}), ({"tokens": 95}, {})], ids=["sessions", "tokens"]
)
def test_one_for_which_there_is_none_waits_and_gets_what_becomes_free(
    world: World, first: dict[str, int], second: dict[str, int]
) -> None:
    running = world.arrive(**first)
    waiting = world.arrive(**second)
    assert waiting.standing is Standing.WAITING
    assert world.turn() == []
    world.leave(running)
    assert world.turn() == [waiting]
    assert waiting.standing is Standing.ADMITTED


def test_room_is_also_what_the_targets_have_left() -> None:
    world = World(room=1)
    running = world.arrive()
    assert world.arrive().standing is Standing.WAITING
    world.leave(running)
    assert len(world.turn()) == 1


def test_sessions_that_are_not_open_yet_count_already(world: World) -> None:
    for _ in range(2):
        place = world.ledger.enter(0.0, Pool(0, 100), num_bytes=1)
        world.ledger.ask(0.0, Pool(0, 100), place, sessions=1, tokens=1)
    late = world.ledger.enter(0.0, Pool(0, 100), num_bytes=1)
    world.ledger.ask(0.0, Pool(0, 100), late, sessions=1, tokens=1)
    assert late.standing is Standing.WAITING


def test_nobody_overtakes_a_large_request_that_waits(world: World) -> None:
    running = world.arrive()
    large = world.arrive(sessions=2)
    small = world.arrive()
    assert world.turn() == []
    world.leave(running)
    assert world.turn() == [large]
    assert small.standing is Standing.WAITING


def test_who_has_waited_too_long_is_never_admitted(world: World) -> None:
    running = world.arrive(sessions=2)
    waiting = world.arrive()
    world.now = 1.0
    world.leave(running)  # at the very moment
    assert world.turn() == [waiting]
    assert waiting.standing is Standing.EXPIRED
    assert world.num_open == 0


def test_the_queue_is_bounded_and_so_are_the_bytes(world: World) -> None:
    world.arrive(sessions=2)
    world.arrive()
    world.arrive(num_bytes=900)
    with pytest.raises(Overloaded, match="as many requests wait"):
        world.arrive()
    with pytest.raises(Overloaded, match="920 bytes of prompts"):
        world.arrive(num_bytes=100)
    assert world.ledger.num_inside == 3


def test_what_can_never_fit_is_refused_for_good(world: World) -> None:
    with pytest.raises(RequestError, match=r"101 tokens at once.*takes 100") as refusal:
        world.arrive(tokens=101)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("request_too_large", None)


def test_retry_after_is_what_departures_let_expect(world: World) -> None:
    now, pool = 0.0, Pool(0, 100)
    for _ in range(20):  # one every four seconds
        now += 4.0
        place = world.ledger.enter(now, pool, num_bytes=1)
        world.ledger.ask(now, pool, place, sessions=1, tokens=1)
        world.ledger.leave(now, place)
    world.now, world.num_open = now, 2
    world.arrive()
    world.arrive()
    with pytest.raises(Overloaded) as refusal:
        world.arrive()
    assert refusal.value.retry_after_s == pytest.approx(12.0)  # two wait already


def test_retry_after_is_a_second_at_least_and_a_minute_at_most(world: World) -> None:
    assert world.ledger.expired(0.0).retry_after_s == 1.0
    for now in (0.0, 3600.0):
        place = world.ledger.enter(now, Pool(0, 100), num_bytes=1)
        world.ledger.ask(now, Pool(0, 100), place, sessions=1, tokens=1)
        world.ledger.leave(now, place)
    assert world.ledger.expired(3600.0).retry_after_s == 60.0


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_bounds_hold_and_nothing_stays_behind(data: st.DataObject) -> None:
    world = World()
    inside: list[Place] = []
    for _ in range(data.draw(st.integers(1, 40))):
        world.now += data.draw(st.floats(0, 1))
        action = data.draw(st.sampled_from(["arrive", "leave", "turn"]))
        if action == "arrive":
            with contextlib.suppress(RequestError):
                inside.append(
                    world.arrive(
                        sessions=data.draw(st.integers(1, 3)),
                        tokens=data.draw(st.integers(1, 120)),
                        num_bytes=data.draw(st.integers(1, 600)),
                    )
                )
        elif action == "leave" and inside:
            world.leave(inside.pop(data.draw(st.integers(0, len(inside) - 1))))
        world.turn()
        admitted = [place for place in inside if place.standing is Standing.ADMITTED]
        assert world.num_open == sum(place.sessions for place in admitted) <= LIMITS.sessions
        assert world.ledger.tokens == sum(place.tokens for place in admitted) <= LIMITS.tokens
        assert world.ledger.num_bytes == sum(place.num_bytes for place in inside) <= LIMITS.num_bytes
        assert len(world.ledger.waiting) <= LIMITS.waiting
    for place in inside:
        world.leave(place)
    ledger = world.ledger
    assert (ledger.num_inside, ledger.num_bytes, ledger.tokens, ledger.promised) == (0, 0, 0, 0)
    assert not ledger.waiting


def test_a_quarter_of_the_sessions_may_wait_unless_it_is_set() -> None:
    assert Limits.of(AdmissionSettings(max_sessions=64)).waiting == 16
    assert Limits.of(AdmissionSettings(max_sessions=64, max_waiting=3)).waiting == 3
