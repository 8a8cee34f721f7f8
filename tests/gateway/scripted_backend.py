"""A small real implementation of the ``Backend`` seam: "generates" scripted token ids, with pauses on demand.

Every opened session takes the next script, or the default one. A script is a sequence of steps: a tuple of ids (one
``Tokens``), an ``asyncio.Event`` to wait for, or an exception to raise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from pipespec.gateway.backend import StageStats, Tokens
from pipespec.gateway.gate import Arriving, Gate, Limits, Permit, Pool
from pipespec.protocol.ids import Position, Rank, TokenId
from pipespec.protocol.messages import EndReason, StageCounters
from pipespec.protocol.sampling import Sampling

Step = tuple[int, ...] | asyncio.Event | Exception
STATS = [
    StageStats(Rank(0), "0:suffix", StageCounters(steps=9, tokens=7)),
    StageStats(Rank(1), "1:target", StageCounters(steps=4, tokens=10, checked=7, accepted=6, rollbacks=1)),
]


@dataclass(eq=False)
class ScriptedStream:
    """One session."""

    script: Sequence[Step]
    prompt: tuple[int, ...]
    sampling: Sampling
    speculate: bool
    end: EndReason | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    delivered: int = 0

    async def __aiter__(self) -> AsyncIterator[Tokens]:
        for step in self.script:
            if self.end is not None:
                return
            if isinstance(step, Exception):
                self.end = EndReason.LOST
                raise step
            if isinstance(step, asyncio.Event):
                await self._pause(step)
                continue
            ids = self._fit(step)
            self.delivered += len(ids)
            yield Tokens(Position(self.delivered - len(ids)), ids)
        self.end = self.end or EndReason.STOP

    def _fit(self, step: Sequence[int]) -> tuple[TokenId, ...]:
        """Cut at a stop id and at ``max_tokens``, as the pipeline does."""
        ids: list[TokenId] = []
        for token in step:
            ids.append(TokenId(token))
            if token in self.sampling.stop_ids:
                self.end = EndReason.STOP
                break
            if self.delivered + len(ids) == self.sampling.max_tokens:
                self.end = EndReason.LENGTH
                break
        return tuple(ids)

    async def _pause(self, event: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()), asyncio.create_task(self.closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self, reason: EndReason = EndReason.CANCELLED) -> None:
        if self.end is None:
            self.end = reason
        self.closed.set()

    async def stats(self, *, timeout_s: float = 1.0) -> list[StageStats]:
        return STATS


class ScriptedBackend:
    """The pipeline of a test.

    Args:
        default: script of sessions that none was queued for.
    """

    def __init__(
        self, default: Sequence[Step] = (), *, vocab_size: int = 1000, context_len: int = 256
    ) -> None:
        self.default = default
        self.scripts: deque[Sequence[Step]] = deque()
        self.is_ready = True
        self.vocab_size = vocab_size
        self.context_len = context_len
        self.opened: list[ScriptedStream] = []
        self.refusal: Exception | None = None
        self.gate = Gate(Limits(sessions=1000), pool=lambda: Pool(num_open=self.num_open, room=1000))
        self._news = asyncio.Condition()

    @property
    def num_open(self) -> int:
        """Sessions that have not ended."""
        return sum(stream.end is None for stream in self.opened)

    @property
    def arriving(self) -> Arriving:
        return self.gate.arriving

    def enter(self, *, num_bytes: int) -> Permit:
        return self.gate.enter(num_bytes=num_bytes)

    async def open(
        self, *, prompt: Sequence[TokenId], sampling: Sampling, speculate: bool = True
    ) -> ScriptedStream:
        if self.refusal is not None:
            raise self.refusal
        script = self.scripts.popleft() if self.scripts else self.default
        stream = ScriptedStream(script, tuple(prompt), sampling, speculate)
        async with self._news:
            self.opened.append(stream)
            self._news.notify_all()
        return stream

    async def session(self, index: int) -> ScriptedStream:
        """The ``index``-th session, as soon as it is open."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.opened) > index)
        return self.opened[index]
