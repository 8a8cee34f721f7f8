"""Reading a stream of another gateway, in virtual time: the real owner at the other end of a bus that fails."""

from __future__ import annotations

import heapq
import random
from itertools import count

import pytest

from pipespec.gateway.resume.asker import WINDOW, RemoteStream
from pipespec.gateway.resume.owner import Limits, OwnedStreams
from pipespec.ops.errors import RequestError, SessionLost
from pipespec.protocol.ids import gateway_inbox
from pipespec.protocol.streams import Failure, Resume, Resumed, StreamId, StreamState

STREAM = StreamId(b"s" * 16)
LIMITS = Limits(grace_s=30.0, lease_s=2.0, stream_bytes=2**24, total_bytes=2**26)
ASKER = gateway_inbox("g1")


def asker(*, index: int = 0, reader: int = 1, cancel: bool = False) -> RemoteStream:
    return RemoteStream(
        STREAM, reader=reader, protocol="grpc", index=index, heartbeat_s=0.1, patience_s=2.0, cancel=cancel
    )


def answer(start: int, *frames: bytes, state: StreamState = StreamState.RUNNING) -> Resumed:
    return Resumed(STREAM, 1, start, frames, state, Failure())


class Wire:
    """A bus in virtual time between an owner and one asker."""

    def __init__(
        self, owned: OwnedStreams, remote: RemoteStream, *, seed: int, loss: float, delay_s: float
    ) -> None:
        self.owned, self.remote, self.now = owned, remote, 0.0
        self.num_messages = 0
        self._random = random.Random(seed)
        self._loss, self._delay_s = loss, delay_s
        self._under_way: list[tuple[float, int, Resume | Resumed]] = []
        self._order = count()

    def send(self, message: Resume | Resumed) -> None:
        self.num_messages += 1
        for _ in range(1 + (self._random.random() < self._loss)):  # as many are doubled as are lost
            if self._random.random() >= self._loss:
                at = self.now + 0.001 + self._random.random() * self._delay_s
                heapq.heappush(self._under_way, (at, next(self._order), message))

    def turn(self, until: float) -> None:
        while self.now < until:
            self.now = round(self.now + 0.005, 6)
            while self._under_way and self._under_way[0][0] <= self.now:
                _, _, message = heapq.heappop(self._under_way)
                if isinstance(message, Resume):
                    self.owned.on_resume(self.now, ASKER, message)
                else:
                    self.remote.on_resumed(self.now, message)
            self.owned.on_timer(self.now)
            for _, sent in self.owned.outbox.take():
                assert isinstance(sent, Resumed)
                self.send(sent)
            asked = self.remote.ask(self.now)
            if asked is not None:
                self.send(asked)


@pytest.mark.parametrize("seed", range(20))
def test_every_frame_comes_once_and_in_order_whatever_the_bus_does(seed: int) -> None:
    fate = random.Random(seed)
    owned, first = OwnedStreams(LIMITS), fate.randrange(20)
    owned.open(0.0, STREAM, protocol="grpc")
    wire = Wire(
        owned, asker(index=first), seed=seed, loss=fate.choice([0, 0.1, 0.3]), delay_s=fate.choice([0, 0.3])
    )
    num_frames, said, got = 60, 0, []
    while not (wire.remote.has_ended and said == num_frames):
        for _ in range(min(fate.randrange(4), num_frames - said)):
            owned.append(STREAM, str(said).encode() * fate.choice([1, 1, 20_000]))
            said += 1
        if said == num_frames:
            owned.end(STREAM)
        if said >= first:
            wire.turn(wire.now + 0.02)
        while fate.random() < 0.9 and (frame := wire.remote.take()) is not None:
            got.append((frame.index, int(frame.content[: len(str(frame.index))])))
        assert wire.now < 60
    while (frame := wire.remote.take()) is not None:
        got.append((frame.index, int(frame.content[: len(str(frame.index))])))
    assert got == [(index, index) for index in range(first, num_frames)]


@pytest.mark.parametrize("seed", range(5))
def test_the_error_at_the_end_comes_after_the_last_frame(seed: int) -> None:
    owned = OwnedStreams(LIMITS)
    owned.open(0.0, STREAM, protocol="grpc")
    wire = Wire(owned, asker(), seed=seed, loss=0.3, delay_s=0.2)
    for _ in range(5):
        owned.append(STREAM, b"x")
    owned.end(STREAM, error=SessionLost("gone", code="session_lost"))
    wire.turn(3.0)
    assert [wire.remote.take() is not None for _ in range(5)] == [True] * 5
    with pytest.raises(SessionLost, match="gone"):
        wire.remote.take()


def test_an_owner_that_does_not_answer_has_lost_the_stream_and_is_asked_no_more() -> None:
    remote = asker()
    asked = [remote.ask(now / 100) for now in range(300)]
    assert 19 <= sum(message is not None for message in asked) <= 21
    assert remote.has_ended
    with pytest.raises(RequestError) as caught:
        remote.check_access()
    assert caught.value.code == "resume_expired"


def test_a_gateway_that_was_stopped_itself_asks_again_before_it_gives_up() -> None:
    remote = asker()
    remote.ask(0.0)
    remote.on_resumed(0.0, answer(0, b"a"))
    assert remote.ask(10.0) is not None
    remote.on_resumed(10.0, answer(1, b"b"))
    assert [frame and frame.content for frame in (remote.take() for _ in range(3))] == [b"a", b"b", None]


def test_frames_after_a_lost_one_are_not_used() -> None:
    remote = asker()
    remote.ask(0.0)
    remote.on_resumed(0.0, answer(1, b"b"))
    assert not remote.is_known
    assert remote.take() is None
    remote.on_resumed(0.0, answer(0, b"a", b"b"))
    remote.on_resumed(0.0, answer(1, b"b", b"c"))
    assert [frame and frame.content for frame in (remote.take() for _ in range(4))] == [
        b"a",
        b"b",
        b"c",
        None,
    ]


def test_an_end_is_not_believed_while_something_before_it_is_missing() -> None:
    remote = asker()
    remote.ask(0.0)
    remote.on_resumed(0.0, answer(2, state=StreamState.COMPLETE))
    assert not remote.has_ended


def test_what_waits_for_a_slow_client_is_bounded() -> None:
    owned = OwnedStreams(LIMITS)
    owned.open(0.0, STREAM, protocol="grpc")
    for _ in range(300):
        owned.append(STREAM, bytes(10_000))
    wire = Wire(owned, asker(), seed=0, loss=0.0, delay_s=0.0)
    wire.turn(2.0)
    waiting = 0
    while wire.remote.take() is not None:
        waiting += 10_000
    assert 0 < waiting <= WINDOW + 10_000
    for _ in range(30):
        wire.turn(wire.now + 0.05)
        while wire.remote.take() is not None:
            waiting += 10_000
    assert waiting == 3_000_000


def test_a_quick_client_is_not_held_up_by_the_heartbeat() -> None:
    owned = OwnedStreams(LIMITS)
    owned.open(0.0, STREAM, protocol="grpc")
    for _ in range(300):
        owned.append(STREAM, bytes(10_000))
    owned.end(STREAM)
    wire = Wire(owned, asker(), seed=0, loss=0.0, delay_s=0.0)
    while not wire.remote.has_ended:
        wire.turn(wire.now + 0.005)
        while wire.remote.take() is not None:
            pass
    assert wire.now < 0.3  # 3 MB in windows of 256 KiB; a heartbeat each would be more than a second


def test_cancelling_gets_through_and_knows_an_unknown_stream() -> None:
    owned = OwnedStreams(LIMITS)
    owned.open(0.0, STREAM, protocol="grpc")
    wire = Wire(owned, asker(cancel=True), seed=3, loss=0.3, delay_s=0.2)
    wire.turn(2.0)
    with pytest.raises(RequestError) as caught:
        wire.remote.check_access()
    assert (caught.value.code, owned.stopped) == ("cancelled", [STREAM])
    wire = Wire(OwnedStreams(LIMITS), asker(cancel=True), seed=3, loss=0.3, delay_s=0.2)
    wire.turn(2.0)
    with pytest.raises(RequestError) as caught:
        wire.remote.check_access()
    assert caught.value.code == "resume_expired"
