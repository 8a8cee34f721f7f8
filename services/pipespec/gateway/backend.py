"""The seam inside the gateway: what a client adapter may ask of the pipeline.

Above it: text, chat templates, HTTP, gRPC, ZeroMQ. Below it: the bus and the protocol. Token ids cross it, text
never does. One asyncio event loop runs both sides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipespec.gateway.gate import Arriving, Permit
from pipespec.protocol.ids import Position, Rank, TokenId
from pipespec.protocol.messages import EndReason, StageCounters
from pipespec.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Tokens:
    """Newly committed tokens, in order: ``ids[0]`` has sequence number ``start``."""

    start: Position
    ids: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class StageStats:
    """What one stage did for one session; ``name`` is ``<index>:<kind or model>``."""

    rank: Rank
    name: str
    counters: StageCounters


class TokenStream(Protocol):
    """One session, seen by its client adapter."""

    @property
    def end(self) -> EndReason | None:
        """Why it ended; None while it runs."""

    def __aiter__(self) -> AsyncIterator[Tokens]:
        """Committed tokens as they come; ends when the session ends.

        Raises:
            SessionLost: the session ended before its last token (``end`` says why).
        """

    async def close(self, reason: EndReason = EndReason.CANCELLED) -> None:
        """End the session on all stages; closing an ended session does nothing."""

    async def stats(self, *, timeout_s: float = 1.0) -> list[StageStats]:
        """Counters of the stages that took part and answered in time; call it after the end."""


class Backend(Protocol):
    """The pipeline, seen by the client adapters."""

    def enter(self, *, num_bytes: int) -> Permit:
        """Count in a request whose prompts take so many bytes; it asks its permit for room before it opens sessions.

        Raises:
            Overloaded: there is no room, not even to wait.
            Unavailable: no target replica is ready, or the gateway is draining.
        """

    @property
    def arriving(self) -> Arriving:
        """Counts what is still being read of requests, before they enter."""

    @property
    def is_ready(self) -> bool:
        """Whether a session opened now would be served: a target replica is there and compatible."""

    @property
    def context_len(self) -> int:
        """Tokens (prompt and generated) that a session may hold at most; the target's."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it; the target's."""

    async def open(
        self, *, prompt: Sequence[TokenId], sampling: Sampling, speculate: bool = True
    ) -> TokenStream:
        """Start a session.

        Args:
            prompt: at least one token id.
            sampling: already checked against context and vocabulary.
            speculate: False leaves all stages but the target out of this session.

        Raises:
            Overloaded: no room for another session.
            Unavailable: no target replica is ready, or the gateway is draining.
        """
