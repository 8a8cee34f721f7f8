"""Clients of the simulated gateways: what each has received, and what it may receive.

Outside fork mode a client knows the target's own decoding beforehand; in fork mode every token must be the choice of *some*
target replica for what is committed before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipespec.emulation.words import extend
from pipespec.protocol.ids import SessionId, TokenId, Topic
from pipespec.protocol.messages import ChainIdentity, EndReason
from pipespec.protocol.tokenlog import TokenLog
from sim.model import Voices
from sim.plan import JOINER, Request


class Violation(AssertionError):
    """An invariant does not hold; the message names it, the case and how to repeat it."""


@dataclass
class Client:
    """One session as its client sees it.

    Attributes:
        log: what was received, with the digest of the committed prefix at every position.
        end: why the session ended; None while it goes on, and for a stream that a dying gateway cut.
        is_cut: its gateway died.
    """

    session: SessionId
    request: Request
    gateway: Topic
    voices: Voices
    num_targets: int
    log: TokenLog
    weights: bytes
    opened_s: float
    state: int
    received: list[int] = field(default_factory=list)
    end: EndReason | None = None
    ended_s: float = 0.0
    is_cut: bool = False
    is_cancelled: bool = False
    heard_s: float = 0.0
    longest_pause_s: float = 0.0

    @classmethod
    def of(
        cls,
        session: SessionId,
        request: Request,
        *,
        gateway: Topic,
        voices: Voices,
        num_targets: int,
        identity: ChainIdentity,
        prompt: tuple[TokenId, ...],
        now: float,
    ) -> Client:
        """A client whose session was just opened."""
        state = voices.language.state_of(prompt, session_seed=request.seed)
        log = TokenLog(identity, prompt)
        return cls(
            session, request, gateway, voices, num_targets, log, identity.weights, now, state, heard_s=now
        )

    @property
    def is_over(self) -> bool:
        """Nothing more can come."""
        return self.end is not None or self.is_cut

    @property
    def is_complete(self) -> bool:
        """A stop id or all tokens have come."""
        received = self.received
        return len(received) == self.request.max_tokens or (
            bool(received) and received[-1] in self.request.stop_ids
        )

    def receive(self, now: float, start: int, tokens: tuple[TokenId, ...]) -> None:
        """Take tokens.

        Raises:
            Violation: not the next ones (I2), not the target's (I1), or after the end (I4).
        """
        if self.is_over:
            raise Violation(f"I4: tokens from {start} on after the end ({self.end})")
        if start != len(self.received):
            raise Violation(f"I2: position {start} after {len(self.received)} tokens")
        for token in tokens:
            if self.is_complete:
                raise Violation(f"I1: a token after the last one, at {len(self.received)}")
            self._check(token)
            self.received.append(token)
            self.state = extend(self.state, token)
        self.log.extend(tokens)
        self.longest_pause_s = max(self.longest_pause_s, now - self.heard_s)
        self.heard_s = now

    def _check(self, token: int) -> None:
        target, voices = self.voices.language.target, self.voices
        forks = (*range(self.num_targets), JOINER) if voices.fork else (0,)
        if all(token != voices.pick(self.state, target, index) for index in forks):
            raise Violation(f"I1: token {token} at {len(self.received)} is no target replica's choice")

    def finish(self, now: float, reason: EndReason) -> None:
        """The session has ended.

        Raises:
            Violation: a second time (I4), or complete without being so (I1).
        """
        if self.is_over:
            raise Violation(f"I4: {reason} after the end ({self.end})")
        self.end, self.ended_s = reason, now
        if reason in (EndReason.LENGTH, EndReason.STOP) and not self.is_complete:
            raise Violation(f"I1: {reason} after {len(self.received)} of {self.request.max_tokens} tokens")
