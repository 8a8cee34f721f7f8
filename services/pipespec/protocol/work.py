"""The seam between the rules and a model: what one step is asked, and what it answers.

A stage's core hands out ``Work``; an engine runs one forward pass over a batch of it and returns the picks.
Neither side knows the other's code.

Shape symbols: P = prompt length, n = position of the first pick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipespec.protocol.ids import Digest, Epoch, Position, SessionId, TokenId
from pipespec.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Work:
    """One session's share of a step.

    The tokens of a session, as the engine sees them, are prompt + generated + candidates::

        [0, start) in the engine's cache; [start, start + len(tokens)) fed now
        the last ``num_candidates`` of ``tokens`` are unchecked words of an earlier stage

    Attributes:
        session: whose work it is.
        epoch: the route in force when the work was cut.
        start: cache entries to keep; whatever the engine holds beyond is truncated first. Where it holds fewer, it
            computes nothing and says so.
        tokens: what is fed from ``start`` on; at least one.
        num_candidates: how many of the last tokens are candidates.
        base: position of the first pick, ``start + len(tokens) - num_candidates - P``; picks are this stage's choices
            for ``base``, ``base + 1``, ...
        digest: digest of the session's log at ``base``; tells at the end whether the log still agrees.
        room: picks to return at most; 0 for a prefill chunk. A model returns ``num_candidates + 1`` picks;
            a draft without a model may return fewer or, without candidates, up to ``room``.
    """

    session: SessionId
    epoch: Epoch
    start: int
    tokens: tuple[TokenId, ...]
    num_candidates: int
    base: Position
    digest: Digest
    room: int

    @property
    def candidates(self) -> tuple[TokenId, ...]:
        """The unchecked tail of ``tokens``."""
        return self.tokens[len(self.tokens) - self.num_candidates :]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of one piece of work.

    Attributes:
        picks: this stage's choices from ``work.base`` on; none for a prefill chunk.
        held: tokens of the session in the engine's cache now. Fewer than were fed: the cache had to be given away, the
            rest is to be fed again. More: the beginning of the prompt was cached already.
    """

    picks: Sequence[TokenId]
    held: int


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How full an engine's cache is, in tokens, and what became of it since the start; all 0 without a cache.

    Attributes:
        capacity: tokens that fit.
        held: in blocks that sessions hold.
        cached: in blocks that no session holds, kept for prompts that begin alike.
        adopted: tokens of prompts that did not have to be computed.
        preempted: sessions whose blocks were taken for older ones.
    """

    capacity: int = 0
    held: int = 0
    cached: int = 0
    adopted: int = 0
    preempted: int = 0


def idle() -> None:
    """Nothing to do meanwhile."""


class Engine(Protocol):
    """Runs one model, or a draft without one, for many sessions. Called from one thread."""

    @property
    def max_batch(self) -> int:
        """Sessions that one step takes at most."""

    @property
    def max_chunk(self) -> int:
        """Tokens of one session that one step takes at most; longer prefills are cut into chunks of this."""

    @property
    def max_step_tokens(self) -> int:
        """Tokens of all sessions that one step takes at most."""

    @property
    def vocab_size(self) -> int:
        """Ids that this engine can read are below it."""

    @property
    def context_len(self) -> int:
        """Tokens (prompt and generated) that a session may hold at most."""

    @property
    def is_model_free(self) -> bool:
        """Whether picks are guesses without a model: may be fewer than asked, never a verification."""

    @property
    def cache_use(self) -> CacheUse:
        """Now; read from other threads too."""

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Make room for a session. Opening an open session starts it afresh."""

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Run one forward pass.

        Args:
            batch: at most ``max_batch`` items, each of another open session, ``max_step_tokens`` tokens in all.
            meanwhile: called once: while the device computes, or before the pass where the engine itself computes.

        Returns:
            One outcome per item, in order.

        Raises:
            InvariantBroken: work for a session that is not open, or beyond the context.
            OutOfMemory: the device has none left for the step; every session holds at most what it held before.
        """

    def close(self, session: SessionId) -> None:
        """Free what a session holds; unknown sessions are ignored."""
