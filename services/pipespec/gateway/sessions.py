"""The pipeline as the client adapters see it: the gateway's core on the event loop, the bus behind it.

The core is owned by the event loop: the bus thread fills a bounded inbox and wakes the loop, a timer task turns the
clock. Tokens wait per session as plain ids, as many as ``max_tokens`` at most. A stream lives as long as its adapter
holds it; after the end it still collects the stages' counters.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol, Self
from weakref import WeakValueDictionary

import structlog

from pipespec.bus.link import BusLink
from pipespec.gateway.backend import StageStats, Tokens
from pipespec.gateway.gate import Arriving, Gate, Limits, Permit, Pool
from pipespec.ops.errors import Overloaded, SessionLost, Unavailable
from pipespec.protocol.gateway_replica import (
    Committed,
    Counted,
    Ended,
    FellowSaid,
    GatewayReplica,
    Skewed,
)
from pipespec.protocol.ids import (
    SESSION_ID_LEN,
    Member,
    Position,
    Rank,
    SessionId,
    TokenId,
    Topic,
    stage_inbox,
)
from pipespec.protocol.messages import (
    MAX_SESSION_TOKENS,
    EndReason,
    GatewayHeartbeat,
    Heartbeat,
    Message,
    StageCounters,
)
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.streams import Resume, Resumed

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 256
"""Tokens that are told together, where a consumer lags; bounds what one message to a client can be."""


def _draining() -> Unavailable:
    return Unavailable("the gateway is shutting down; try another replica", code="server_shutting_down")


class SessionStream:
    """One session's committed tokens, as they come. Iterate once, from one task."""

    def __init__(self, pipeline: PipelineBackend, session: SessionId) -> None:
        self.session = session
        self._pipeline = pipeline
        self._end: EndReason | None = None
        self._waiting: list[TokenId] = []
        self._told = Position(0)
        self._awaited: set[Topic] = set()
        self._counted: dict[tuple[Rank, Topic], StageCounters] = {}
        self._news = asyncio.Event()

    @property
    def end(self) -> EndReason | None:
        """Why it ended; None while it runs."""
        return self._end

    def tell(self, event: Committed | Ended | Counted) -> None:
        """Take over news from the core."""
        match event:
            case Committed(tokens=tokens):
                self._waiting.extend(tokens)
            case Ended(reason=reason, route=route):
                self._end = reason
                inboxes = [stage_inbox(Rank(rank), name) for rank, name in enumerate(route) if name]
                self._awaited = set(inboxes)
            case Counted(rank=rank, replica=replica, counters=counters):
                self._counted[rank, replica] = counters
                self._awaited.discard(replica)
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Tokens]:
        """Committed tokens in order, see ``TokenStream``."""
        return self._tokens()

    async def _tokens(self) -> AsyncIterator[Tokens]:
        while True:
            if self._waiting:
                ids, start = tuple(self._waiting[:MOST_AT_ONCE]), self._told
                del self._waiting[:MOST_AT_ONCE]
                self._told = Position(start + len(ids))
                yield Tokens(start, ids)
                continue
            if self._end is not None:
                break
            self._news.clear()
            await self._news.wait()
        if self._end in (EndReason.LOST, EndReason.REFUSED, EndReason.EXPIRED):
            raise SessionLost(
                f"the pipeline ended the session before its last token ({self._end.value}); "
                "what was sent is right, try again for the rest",
                code=f"session_{self._end.value}",
            )

    async def close(self, reason: EndReason = EndReason.CANCELLED) -> None:
        """End the session on all stages."""
        self._pipeline.end_session(self.session, reason)

    async def stats(self, *, timeout_s: float = 1.0) -> list[StageStats]:
        """Counters of the stages that answered in time, of all replicas that took part."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._awaited:
                    self._news.clear()
                    await self._news.wait()
        totals: dict[Rank, StageCounters] = {}
        for (rank, _), counters in sorted(self._counted.items()):
            totals[rank] = totals.get(rank, StageCounters()).plus(counters)
        return [StageStats(rank, self._pipeline.stage_name(rank), total) for rank, total in totals.items()]


Endings = Callable[[], frozenset[Member]]
"""Says which stage replicas are going away."""


class Fellows(Protocol):
    """What speaks with other gateways."""

    def on_message(self, now: float, sender: Topic, message: Resume | Resumed) -> None:
        """Another gateway said something."""

    def on_timer(self, now: float) -> None:
        """The clock has turned."""


class PipelineBackend:
    """``Backend`` over the bus. Use as an async context manager on the gateway's event loop.

    Args:
        core: of this gateway.
        replica: its name.
        limits: of what is taken in at once.
        tick_s: seconds between turns of the clock.
        endings: asked at every turn; what the cluster knows beside the heartbeats.
    """

    def __init__(
        self,
        core: GatewayReplica,
        *,
        replica: str,
        limits: Limits,
        tick_s: float,
        endings: Endings = frozenset,
    ) -> None:
        self.core = core
        self.is_leaving = False
        self.is_draining = False
        self._num_unplaced = 0
        self.gate = Gate(limits, pool=self._pool)
        self._replica = replica
        self.turned_s = time.monotonic()
        self._link: BusLink | None = None
        self._max_sessions = limits.sessions
        self._tick_s = tick_s
        self._endings = endings
        self._fellows: Fellows | None = None
        self._streams: WeakValueDictionary[SessionId, SessionStream] = WeakValueDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._session_ended = asyncio.Event()
        self._is_woken = False

    def attach(self, link: BusLink) -> None:
        """Give it the link that calls ``on_news``."""
        self._link = link

    def attach_fellows(self, fellows: Fellows) -> None:
        """Give it what hears other gateways, and turns with the clock."""
        self._fellows = fellows

    def publish(self, sends: Sequence[tuple[Topic, Message]]) -> None:
        """Say something on the bus that is not the core's; never blocks."""
        if self._link is not None:
            self._link.publish(sends)

    async def __aenter__(self) -> Self:
        """Begin to turn the clock."""
        self._loop = asyncio.get_running_loop()
        self._timer = asyncio.create_task(self._turn_clock(), name="gateway-timer")
        return self

    async def failed(self) -> None:
        """Wait until the pipeline can no longer work, and raise why: our own broken invariant, or the bus thread's."""
        if self._timer is not None:
            await asyncio.shield(self._timer)

    async def __aexit__(self, *_: object) -> None:
        """End every session and stop the clock."""
        for session in list(self.core.sessions):
            self.end_session(session, EndReason.LOST)
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)

    async def drain(self, *, delay_s: float = 0.0, timeout_s: float) -> None:
        """Be not ready at once and refuse new sessions after ``delay_s``; return when those that run have ended.

        Args:
            delay_s: that load balancers need to send no more.
            timeout_s: after it, sessions are left running.
        """
        self.is_leaving = True
        await asyncio.sleep(delay_s)
        self.is_draining = True
        self.gate.close(_draining)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.gate.empty()  # what is committed may still be on its way to a client
                while self.num_sessions:
                    self._session_ended.clear()
                    await self._session_ended.wait()

    # For the client adapters

    @property
    def is_ready(self) -> bool:
        """Whether a session opened now would be served."""
        has_bus = self._link is not None and self._link.is_joined
        return has_bus and not self.is_leaving and self.core.fleet.target(time.monotonic()) is not None

    @property
    def context_len(self) -> int:
        """The target's, or what the protocol can carry; 0 before a target was heard of."""
        return min(self.core.fleet.context_len, MAX_SESSION_TOKENS)

    @property
    def vocab_size(self) -> int:
        """The target's, 0 before a target was heard of."""
        return self.core.fleet.vocab_size

    @property
    def num_refused(self) -> int:
        """Requests for which there was no room, since the start."""
        return self.gate.num_refused + self.arriving.num_refused + self._num_unplaced

    @property
    def num_sessions(self) -> int:
        """Open now."""
        return len(self.core.sessions)

    @property
    def arriving(self) -> Arriving:
        """See ``Backend``."""
        return self.gate.arriving

    def enter(self, *, num_bytes: int) -> Permit:
        """Count a request in, see ``Backend``."""
        return self.gate.enter(num_bytes=num_bytes)

    def _pool(self) -> Pool | None:
        now, fleet = time.monotonic(), self.core.fleet
        return None if fleet.target(now) is None else Pool(self.num_sessions, fleet.room(now))

    async def open(
        self, *, prompt: Sequence[TokenId], sampling: Sampling, speculate: bool = True
    ) -> SessionStream:
        """Start a session, see ``Backend``."""
        if self.is_draining:
            raise _draining()
        session_id = SessionId(secrets.token_bytes(SESSION_ID_LEN))
        try:
            self._check_room()
            self.core.open(
                time.monotonic(), session_id, prompt=tuple(prompt), sampling=sampling, speculate=speculate
            )
        except Overloaded:
            self._num_unplaced += 1
            raise
        stream = self._streams[session_id] = SessionStream(self, session_id)
        self._carry_out()
        return stream

    def _check_room(self) -> None:
        if self.num_sessions >= self._max_sessions:
            raise Overloaded(
                f"{self.num_sessions} sessions are open, the limit is {self._max_sessions}; try again later"
            )

    def end_session(self, session: SessionId, reason: EndReason) -> None:
        """End a session; an ended one is ignored."""
        self.core.close(session, reason)
        self._carry_out()

    def stage_name(self, rank: Rank) -> str:
        """``<index>:<model>`` of a stage, as its replicas say."""
        beats = [b for b in self.core.fleet.living(time.monotonic()) if b.rank == rank]
        return f"{rank}:{beats[0].model}" if beats else str(rank)

    # From the bus and the clock

    def heartbeat(self) -> GatewayHeartbeat:
        """What the fleet hears of this gateway; called on the bus thread, reads plain values only."""
        progress = self.core.progress
        return GatewayHeartbeat(
            replica=self._replica,
            ready=self.is_ready,
            draining=self.is_leaving,
            sessions=self.num_sessions,
            max_sessions=self._max_sessions,
            refused=self.num_refused,
            tokens=progress.tokens,
            followed=progress.followed,
            followed_us=round(1e6 * progress.followed_s),
        )

    def on_news(self) -> None:
        """Let the event loop receive; called on the bus thread. One call is under way at a time."""
        if self._loop is not None and not self._is_woken and not self._loop.is_closed():
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._receive)

    def _receive(self) -> None:
        self._is_woken = False
        now = time.monotonic()
        try:
            for envelope in self._link.receive(0.0) if self._link is not None else ():
                self.core.on_envelope(now, envelope)
            self._carry_out()
        except Exception as error:  # noqa: BLE001  # raised by the clock's task, which stops the service loudly
            self._failure = error

    async def _turn_clock(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            self.turned_s = time.monotonic()
            self.core.fleet.on_endings(self._endings())
            self.core.on_timer(self.turned_s)
            self._carry_out()
            if self._fellows is not None:
                self._fellows.on_timer(self.turned_s)
            self.gate.turn()
            await asyncio.sleep(self._tick_s)

    def _carry_out(self) -> None:
        """News to the streams, then publications."""
        events, self.core.events = self.core.events, []
        for event in events:
            if isinstance(event, Skewed):
                self._warn(event.beat)
                continue
            if isinstance(event, FellowSaid):
                if self._fellows is not None:
                    self._fellows.on_message(time.monotonic(), event.sender, event.message)
                continue
            if isinstance(event, Ended):
                self._session_ended.set()
                self.gate.turn()
            stream = self._streams.get(event.session)
            if stream is not None:
                stream.tell(event)
        self.publish(self.core.outbox.take())

    def _warn(self, beat: Heartbeat) -> None:
        fleet = self.core.fleet
        log.warning(
            "replica.incompatible",
            replica=f"{beat.rank}.{beat.replica}",
            num_stages=beat.num_stages,
            weights=beat.weights.hex(),
            tokenizer=beat.tokenizer.hex(),
            expected_num_stages=fleet.num_stages,
            expected_weights=fleet.weights.hex(),
            expected_tokenizer=fleet.tokenizer.hex(),
            advice="it gets no sessions; all stages must share one vocabulary, all target replicas one model",
        )
