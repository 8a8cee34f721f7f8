"""A replica of a stage: who is let in, what is dropped and counted, leases, tombstones, repetition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Incarnation,
    Position,
    Rank,
    SessionId,
    TokenId,
    Topic,
    gateway_inbox,
    observer_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import (
    ChainIdentity,
    Close,
    EndReason,
    Envelope,
    Finished,
    Message,
    Open,
    Segment,
    SegmentKind,
    SessionState,
    State,
    Stepped,
    StepShare,
    Sync,
    Watch,
)
from pipespec.protocol.place import Place
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import FreeCache, OpenCache, StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from pipespec.protocol.tokenlog import TokenLog
from pipespec.protocol.work import Outcome
from protocol.examples import SESSION, ids

GATEWAY, DRAFT = gateway_inbox("g0"), stage_inbox(Rank(0), "a")
IDENTITY = ChainIdentity(b"w" * 16, b"t" * 16)
PLACE = Place(Rank(1), "b", 2, weights=b"w" * 16, tokenizer=b"t" * 16, vocab_size=100, max_sessions=2)
TIMERS = Timers(heartbeat_s=0.1, dead_s=0.5, stall_s=1.0, lease_s=5.0, sync_s=0.025)
OPEN = Open(SESSION, Epoch(0), ("a", "b"), IDENTITY, ids(1, 2), Sampling(max_tokens=20), ())


class Bench:
    def __init__(self) -> None:
        limits = StageLimits(lookahead=4, max_chunk=8, context_len=100)
        self.core = StageReplica(PLACE, limits, TIMERS)
        self.now = 0.0
        self.number = 0

    def hear(self, message: Message, *, sender: Topic = GATEWAY, incarnation: int = 1) -> list[Message]:
        self.number += 1
        self.core.on_envelope(self.now, Envelope(sender, Incarnation(incarnation), self.number, message))
        return [sent for _, sent in self.core.outbox.take()]

    def speculate(
        self, *tokens: int, base: int = 0, epoch: int = 0, digest: bytes | None = None
    ) -> list[Message]:
        at_base = digest or TokenLog(IDENTITY, ids(1, 2)).digest_at(0)
        segment = Segment(
            SegmentKind.SPECULATION, SESSION, Epoch(epoch), Position(base), Digest(at_base), ids(*tokens)
        )
        return self.hear(segment, sender=DRAFT)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reasons(messages: list[Message]) -> list[EndReason]:
    return [message.reason for message in messages if isinstance(message, Finished)]


def test_opening_orders_a_cache_and_closing_frees_it_with_a_last_word(bench: Bench) -> None:
    bench.hear(OPEN)
    assert bench.core.orders == [OpenCache(OPEN)]
    assert reasons(bench.hear(Close(SESSION, Epoch(0), EndReason.STOP))) == [EndReason.STOP]
    assert bench.core.orders[1:] == [FreeCache(SESSION)]
    assert bench.core.sessions == {}


@pytest.mark.parametrize(
    "change",
    [
        {"identity": ChainIdentity(b"w" * 16, b"x" * 16)},
        {"identity": ChainIdentity(b"x" * 16, b"t" * 16)},
        {"route": ("a", "other")},
        {"route": ("a", "b", "c")},
        {"prompt": ids(1, 100)},
        {"committed": ids(5, 100)},
    ],
    ids=[
        "tokenizer",
        "weights",
        "not in the route",
        "another chain",
        "prompt out of vocabulary",
        "committed too",
    ],
)
def test_what_a_replica_cannot_serve_is_refused(bench: Bench, change: dict[str, object]) -> None:
    assert reasons(bench.hear(replace(OPEN, **change))) == [EndReason.REFUSED]  # type: ignore[arg-type]
    assert bench.core.sessions == {}
    assert bench.core.orders == []


def test_more_sessions_than_there_is_room_for_are_refused(bench: Bench) -> None:
    for index in range(3):
        answer = bench.hear(replace(OPEN, session=SessionId(bytes([index]) * 16)))
    assert reasons(answer) == [EndReason.FULL]
    assert len(bench.core.sessions) == 2


def test_a_closed_session_stays_closed_for_the_lease_time(bench: Bench) -> None:
    bench.hear(OPEN)
    bench.hear(Close(SESSION, Epoch(0), EndReason.CANCELLED))
    bench.hear(OPEN)
    assert bench.core.sessions == {}
    state = State((SessionState(SESSION, Epoch(0), Position(0), Digest(bytes(16)), ()),))
    assert bench.hear(state) == []
    bench.hear(replace(OPEN, epoch=Epoch(1)))
    assert SESSION in bench.core.sessions


def test_an_unknown_session_in_a_state_is_asked_for_once_per_interval(bench: Bench) -> None:
    state = State((SessionState(SESSION, Epoch(2), Position(0), Digest(bytes(16)), ()),))
    (sync,) = bench.hear(state)
    assert isinstance(sync, Sync)
    assert sync.session == SESSION
    assert bench.hear(state) == []
    bench.now = 0.03
    assert len(bench.hear(state)) == 1


def test_who_is_behind_the_gateway_asks_it(bench: Bench) -> None:
    bench.hear(OPEN)
    (sync,) = bench.speculate(7, base=5)
    assert isinstance(sync, Sync)
    assert sync.position == 0
    assert bench.core.dropped["gap"] == 1


def test_a_stale_or_foreign_segment_is_counted_and_changes_nothing(bench: Bench) -> None:
    assert bench.speculate(7) == []
    bench.hear(OPEN)
    bench.speculate(7, epoch=1)
    bench.speculate(7, digest=b"z" * 16)
    bench.speculate(7, 100)
    stranger = Segment(SegmentKind.VERIFICATION, SESSION, Epoch(0), Position(0), Digest(bytes(16)), ids(7))
    bench.hear(stranger, sender=stage_inbox(Rank(0), "stranger"))
    assert bench.core.dropped == {
        "unknown_session": 2,
        "old_epoch": 1,
        "diverged": 1,
        "token_out_of_range": 1,
    }
    assert len(bench.core.sessions[SESSION].claims) == 0


def test_duplicates_and_former_incarnations_are_dropped(bench: Bench) -> None:
    bench.hear(OPEN)
    bench.number -= 1
    bench.hear(OPEN)
    bench.now = 1.0  # silent for longer than dead_s
    bench.hear(replace(OPEN, session=SessionId(b"2" * 16)), incarnation=2)
    bench.hear(Close(SESSION, Epoch(0), EndReason.STOP), incarnation=1)
    assert bench.core.dropped["duplicate_or_former"] == 2
    assert SESSION in bench.core.sessions


def test_a_session_that_no_state_names_expires_with_the_lease(bench: Bench) -> None:
    bench.hear(OPEN)
    bench.now = 4.9
    bench.core.on_timer(bench.now)
    assert SESSION in bench.core.sessions
    bench.now = 5.1
    bench.core.on_timer(bench.now)
    assert bench.core.sessions == {}
    assert reasons([message for _, message in bench.core.outbox.take()]) == [EndReason.EXPIRED]


def test_a_quiet_session_repeats_its_window(bench: Bench) -> None:
    bench.hear(OPEN)
    (work,) = bench.core.work(bench.now, max_batch=4, max_tokens=99)
    bench.core.on_outcome(bench.now, work, Outcome([TokenId(7)], work.start + len(work.tokens)), busy_us=5)
    first = bench.core.outbox.take()
    bench.core.on_timer(0.05)
    assert bench.core.outbox.take() == []
    bench.core.on_timer(0.11)
    assert bench.core.outbox.take() == first
    assert bench.core.totals().tokens == 1


def test_the_session_that_waited_longest_goes_first(bench: Bench) -> None:
    other = SessionId(b"2" * 16)
    bench.hear(OPEN)
    bench.hear(replace(OPEN, session=other))
    order = []
    for now in range(4):
        (work,) = bench.core.work(float(now), max_batch=1, max_tokens=99)
        order.append(work.session)
        bench.core.on_outcome(
            float(now), work, Outcome([TokenId(7)], work.start + len(work.tokens)), busy_us=1
        )
    assert order == [SESSION, other, SESSION, other]


def test_an_observer_hears_of_every_step_until_its_lease_ends(bench: Bench) -> None:
    observer = observer_inbox("o")
    bench.hear(OPEN)
    bench.speculate(5, 6)
    bench.hear(Watch(lease_ms=1000), sender=observer)
    for now, heard in ((0.5, 1), (2.0, 0)):
        bench.now = now
        (work,) = bench.core.work(bench.now, max_batch=4, max_tokens=99)
        picks = [*work.candidates, TokenId(7)][: work.room]
        bench.core.on_outcome(bench.now, work, Outcome(picks, work.start + len(work.tokens)), busy_us=5)
        bench.core.on_step(bench.now, began_us=1, took_us=5)
        stepped = [message for topic, message in bench.core.outbox.take() if topic == observer]
        assert len(stepped) == heard
        if heard:
            share = StepShare(SESSION, Position(0), fed=4, candidates=2, accepted=2, said=3)
            assert stepped == [Stepped(PLACE.rank, PLACE.replica, began_us=1, took_us=5, shares=(share,))]


def test_few_observers_are_told_and_none_for_longer_than_a_minute(bench: Bench) -> None:
    for number in range(9):
        bench.hear(Watch(lease_ms=2**32 - 1), sender=observer_inbox(f"o{number}"))
    bench.hear(OPEN)
    told = []
    for bench.now in (1.0, 61.0):
        (work,) = bench.core.work(bench.now, max_batch=4, max_tokens=99)
        bench.core.on_outcome(
            bench.now, work, Outcome([TokenId(7)], work.start + len(work.tokens)), busy_us=5
        )
        bench.core.on_step(bench.now, began_us=1, took_us=5)
        told.append(sum(isinstance(message, Stepped) for _, message in bench.core.outbox.take()))
    assert told == [4, 0]


def test_a_session_that_was_misread_begins_anew_with_the_open_that_answers_its_sync(bench: Bench) -> None:
    """Found by simulation: a damaged prompt was never put right, since an open only told of what was committed."""
    bench.hear(replace(OPEN, prompt=ids(1, 3)))
    log = TokenLog(IDENTITY, OPEN.prompt)
    log.extend(ids(5))
    entry = SessionState(SESSION, Epoch(0), Position(1), log.digest_at(1), ids(5))
    assert any(isinstance(message, Sync) for message in bench.hear(State((entry,))))
    bench.hear(replace(OPEN, committed=ids(5)))
    assert bench.core.orders[1:] == [FreeCache(SESSION), OpenCache(replace(OPEN, committed=ids(5)))]
    assert bench.core.sessions[SESSION].claims.log.digest_at(1) == log.digest_at(1)
