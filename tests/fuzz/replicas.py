"""The cores of a stage and of a gateway under envelopes that decode: right and wrong in every field, in any order.

A small world is drawn: two sessions, three epochs, few places and digests, right ones among them, so that messages come
close to being true. Whatever is said, what is committed stays, every answer can be packed, and memory is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fuzz.draw import Draw
from pipespec.protocol.codec import decode, encode
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import Committed, GatewayReplica
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
    stage_inbox,
)
from pipespec.protocol.messages import (
    ChainIdentity,
    Close,
    Echo,
    EndReason,
    Envelope,
    Finished,
    Heartbeat,
    Message,
    Open,
    Outbox,
    Segment,
    SegmentKind,
    SessionState,
    StageCounters,
    State,
    Sync,
    Watch,
)
from pipespec.protocol.place import Place
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits, StageSession
from pipespec.protocol.timers import Timers
from pipespec.protocol.tokenlog import TokenLog
from pipespec.protocol.work import Outcome, Work

TIMERS = Timers(heartbeat_s=0.1, dead_s=0.5, stall_s=1.0, lease_s=5.0, sync_s=0.025)
WEIGHTS, TOKENIZER = b"w" * 16, b"t" * 16
IDENTITY = ChainIdentity(WEIGHTS, TOKENIZER)
SESSIONS = [SessionId(bytes([index]) * 16) for index in range(3)]
SENDERS = [
    gateway_inbox("g0"),
    gateway_inbox("g1"),
    *(stage_inbox(Rank(rank), "r0") for rank in range(3)),
    stage_inbox(Rank(2), "r1"),
    Topic(b"observer.x."),
    Topic(b""),
]
VOCAB = 10
MAX_STEPS = 300
PROMPT = (TokenId(1), TokenId(2))


class World:
    """What messages are made of."""

    def __init__(self, data: bytes) -> None:
        self.draw = Draw(data)
        self.now = 0.0
        self.number = 0
        log = TokenLog(IDENTITY, PROMPT)
        log.extend(self.truth(position) for position in range(64))
        self._log = log

    def truth(self, position: int) -> TokenId:
        """What an honest target says there."""
        return TokenId(position * 7 % VOCAB)

    def position(self) -> Position:
        """Mostly small."""
        return Position(self.draw.one_of([*range(24), 63, 600, 2**31, 2**32 - 1]))

    def digest(self, at: int) -> Digest:
        """The right one where there is one, or another."""
        kind = self.draw.below(4)
        return Digest(bytes([kind]) * 16) if kind == 3 or at > 64 else self._log.digest_at(at)

    def tokens(self, at: int) -> tuple[TokenId, ...]:
        """True words from there on, or others, or none that there are."""
        length = self.draw.below(12)
        said = [self.truth(position) for position in range(at, at + length)]
        if length and self.draw.below(3) == 0:
            said[self.draw.below(length)] = TokenId(self.draw.one_of([0, 9, VOCAB, 2**32 - 1]))
        return tuple(said)

    def epoch(self) -> Epoch:
        """Mostly the first."""
        return Epoch(self.draw.one_of([0, 0, 0, 1, 2, 2**32 - 1]))

    def honest(self, rank: int, message: Message) -> Envelope:
        """What a living replica says, beside all that is false."""
        self.number += 1
        return Envelope(stage_inbox(Rank(rank), "r0"), Incarnation(1), self.number, message)

    def beats(self) -> list[Envelope]:
        """Every stage of the chain lives."""
        return [self.honest(rank, _beat(rank, turn=self.number)) for rank in range(3)]

    def envelope(self) -> Envelope:
        """One more message, from anybody; its bytes are those that would arrive."""
        self.number += self.draw.one_of([1, 1, 1, 0])
        incarnation = Incarnation(self.draw.one_of([1, 1, 1, 2]))
        said = Envelope(self.draw.one_of(SENDERS), incarnation, self.number, self.message())
        return decode(encode(said))

    def message(self) -> Message:
        """Of any kind, with true and false fields."""
        draw, session = self.draw, self.draw.one_of(SESSIONS)
        kind = draw.below(12)
        at = self.position()
        if kind < 4:
            return Segment(
                draw.one_of(list(SegmentKind)), session, self.epoch(), at, self.digest(at), self.tokens(at)
            )
        if kind < 6:
            return self._state(session)
        if kind == 6:
            return Sync(session, self.epoch(), at, self.digest(at))
        if kind == 7:
            return Close(session, self.epoch(), draw.one_of(list(EndReason)))
        if kind == 8:
            return self._open(session)
        if kind == 9:
            reason = draw.one_of(list(EndReason))
            return Finished(session, self.epoch(), Rank(draw.below(16)), reason, StageCounters())
        if kind == 10:
            return self._heartbeat()
        return draw.one_of([Echo(1), Watch(2**32 - 1)])

    def _state(self, session: SessionId) -> State:
        entries = []
        for _ in range(1 + self.draw.below(2)):
            committed = self.position()
            tail = self.tokens(max(0, committed - self.draw.below(12)))[:committed]
            entries.append(SessionState(session, self.epoch(), committed, self.digest(committed), tail))
        return State(tuple(entries))

    def _open(self, session: SessionId) -> Open:
        draw = self.draw
        routes = [("r0", "r0", "r0"), ("", "r0", "r0"), ("r0", "", "r1"), ("r0", "r0"), ("r0",) * 16, ("x",)]
        prompt = draw.one_of([PROMPT, PROMPT, PROMPT, (TokenId(3),), (TokenId(VOCAB),), PROMPT * 100])
        sampling = Sampling(max_tokens=draw.one_of([40, 40, 1, 2**31 - 1]), stop_ids=(5,))
        identity = draw.one_of([IDENTITY, IDENTITY, ChainIdentity(b"x" * 16, TOKENIZER)])
        return Open(session, self.epoch(), draw.one_of(routes), identity, prompt, sampling, self.tokens(0))

    def _heartbeat(self) -> Heartbeat:
        draw = self.draw
        return replace(
            _beat(draw.one_of([0, 1, 2, 15]), turn=self.number),
            replica=draw.one_of(["r0", "r1", ""]),
            ready=draw.below(4) > 0,
            draining=draw.below(4) == 3,
            weights=draw.one_of([WEIGHTS, WEIGHTS, b""]),
            tokenizer=draw.one_of([TOKENIZER, TOKENIZER, b""]),
            vocab_size=draw.one_of([VOCAB, VOCAB, 0, 2**32 - 1]),
            context_len=draw.one_of([100, 0, 2**32 - 1]),
            num_stages=draw.one_of([3, 3, 3, 0, 255]),
            sessions=draw.one_of([0, 2**32 - 1]),
            max_sessions=draw.one_of([64, 0, 2**32 - 1]),
        )

    def wait(self) -> None:
        """Let some time go by."""
        self.now += self.draw.one_of([0.0, 0.01, 0.1, 1.0, 6.0, 700.0])


def _beat(rank: int, *, turn: int) -> Heartbeat:
    return Heartbeat(
        rank=Rank(rank),
        replica="r0",
        ready=True,
        draining=False,
        model="m",
        weights=WEIGHTS,
        tokenizer=TOKENIZER,
        vocab_size=VOCAB,
        context_len=100,
        num_stages=3,
        turn=turn,
        sessions=0,
        max_sessions=64,
        counters=StageCounters(),
    )


def packed(outbox: Outbox) -> int:
    """How many messages go out; all of them can be packed and read."""
    sends = outbox.take()
    for topic, message in sends:
        decode(encode(Envelope(topic, Incarnation(1), 1, message)))
    return len(sends)


def stage(data: bytes) -> None:
    """A replica in the middle of a chain: nothing is raised, the committed prefix of every session stays, memory is bounded."""
    world = World(data)
    place = Place(Rank(1), "r0", 3, weights=b"m" * 16, tokenizer=TOKENIZER, vocab_size=VOCAB, max_sessions=2)
    core = StageReplica(place, StageLimits(lookahead=4, max_chunk=8, context_len=200), TIMERS)
    final: dict[StageSession, tuple[TokenId, ...]] = {}
    begin = Open(
        SESSIONS[0], Epoch(0), ("r0", "r0", "r0"), IDENTITY, PROMPT, Sampling(max_tokens=40), committed=()
    )
    core.on_envelope(0.0, Envelope(SENDERS[0], Incarnation(1), 1, begin))
    for _ in range(MAX_STEPS):
        if world.draw.is_over:
            break
        match world.draw.below(4):
            case 0 | 1:
                core.on_envelope(world.now, world.envelope())
            case 2:
                for work in core.work(world.now, max_batch=2, max_tokens=16):
                    outcome = Outcome(_picks(world, work), world.draw.one_of([10**6, 0, len(work.tokens)]))
                    core.on_outcome(world.now, work, outcome, busy_us=1)
            case _:
                world.wait()
                core.on_timer(world.now)
        core.orders.clear()
        assert packed(core.outbox) <= 64
        assert len(core.sessions) <= 2
        assert core.num_remembered <= 2 * len(SESSIONS)
        final = {session: _kept(final.get(session, ()), session) for session in core.sessions.values()}


def _kept(before: Sequence[TokenId], session: StageSession) -> tuple[TokenId, ...]:
    now = session.claims.log.slice(0, session.claims.committed)
    assert now[: len(before)] == tuple(before)
    return now


def _picks(world: World, work: Work) -> list[TokenId]:
    return [world.truth(work.base + index) for index in range(work.num_candidates + 1 if work.room else 0)]


def gateway(data: bytes) -> None:
    """A gateway: nothing is raised, what a client was told stays as it is and has no gaps, every answer can be packed."""
    world = World(data)
    fleet = Fleet(num_stages=3, tokenizer=TOKENIZER, timers=TIMERS)
    core = GatewayReplica(fleet, TIMERS)
    told: dict[SessionId, list[TokenId]] = {session: [] for session in SESSIONS}
    opened: set[SessionId] = set()
    for envelope in world.beats():
        core.on_envelope(world.now, envelope)
    for _ in range(MAX_STEPS):
        if world.draw.is_over:
            break
        match world.draw.below(7):
            case 0 | 1 | 2:
                core.on_envelope(world.now, world.envelope())
            case 3:
                _ask(world, core, opened)
            case 4:
                _go_on(world, core)
            case _:
                world.wait()
                for envelope in world.beats() if world.draw.below(2) else ():
                    core.on_envelope(world.now, envelope)
                core.on_timer(world.now)
        for event in core.events:
            if isinstance(event, Committed):
                said = told[event.session]
                assert event.start == len(said), "no gap, nothing twice"
                said.extend(event.tokens)
        core.events.clear()
        assert packed(core.outbox) <= 64
        for session in core.sessions.values():
            assert session.tokens(0, session.committed) == tuple(told[session.session])
            assert len(told[session.session]) <= session.sampling.max_tokens


def _go_on(world: World, core: GatewayReplica) -> None:
    """The target says what comes next in a session."""
    session = core.sessions.get(world.draw.one_of(SESSIONS))
    if session is None:
        return
    base = session.committed
    words = tuple(world.truth(base + index) for index in range(world.draw.below(5)))
    digest = session.state_entry().digest
    said = Segment(SegmentKind.VERIFICATION, session.session, session.epoch, base, digest, words)
    core.on_envelope(world.now, world.honest(2, said))


def _ask(world: World, core: GatewayReplica, opened: set[SessionId]) -> None:
    """A client asks or leaves; a session is opened once, as its random name sees to."""
    session = world.draw.one_of(SESSIONS)
    if session in opened:
        core.close(session, EndReason.CANCELLED)
    elif core.fleet.route(world.now, speculate=True) is not None:
        opened.add(session)
        core.open(
            world.now, session, prompt=PROMPT, sampling=Sampling(max_tokens=world.draw.one_of([40, 1, 8]))
        )
