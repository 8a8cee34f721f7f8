"""The counters and the queue behind the gate: what was taken in, who waits, who is next.

Sans-I/O: every call brings the time and what the pipeline can hold. First come, first served: nobody who waits is overtaken, so a
large request gets its room. Whoever waited too long is expired and never admitted; nothing is counted twice or kept after
``leave``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from pipespec.gateway.gate.departures import Departures
from pipespec.ops.admission import AdmissionSettings
from pipespec.ops.errors import Overloaded, RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds; see ``AdmissionSettings``."""

    sessions: int
    tokens: int = 2**40
    num_bytes: int = 2**40
    waiting: int = 0
    patience_s: float = 0.0

    @classmethod
    def of(cls, settings: AdmissionSettings) -> Self:
        """The gateway's."""
        return cls(
            sessions=settings.max_sessions,
            tokens=settings.max_tokens_in_flight,
            num_bytes=settings.max_bytes_in_flight,
            waiting=settings.waiting,
            patience_s=settings.queue_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """What the pipeline says now.

    Attributes:
        num_open: sessions of this gateway.
        room: sessions that its targets would still take.
    """

    num_open: int
    room: int


class Standing(Enum):
    """Where a request stands."""

    ENTERED = auto()
    """Its bytes are counted; it has not asked for sessions yet."""
    WAITING = auto()
    ADMITTED = auto()
    EXPIRED = auto()
    """It has waited too long."""
    LEFT = auto()


@dataclass(slots=True, eq=False)
class Place:
    """One request's entry."""

    num_bytes: int
    sessions: int = 0
    tokens: int = 0
    until_s: float = 0.0
    standing: Standing = Standing.ENTERED
    promised: int = 0
    """Sessions that it was let in for and has not opened yet."""


@dataclass(slots=True)
class Ledger:
    """All requests of a gateway."""

    limits: Limits
    num_inside: int = 0
    num_bytes: int = 0
    tokens: int = 0
    promised: int = 0
    waiting: deque[Place] = field(default_factory=deque)
    _departures: Departures = field(default_factory=Departures)

    def enter(self, now: float, pool: Pool, *, num_bytes: int) -> Place:
        """Count a request in that has just arrived.

        Raises:
            Overloaded: its bytes have no room, or it could not even wait.
        """
        if self.num_bytes + num_bytes > self.limits.num_bytes:
            raise self._overloaded(now, f"{self.num_bytes} bytes of prompts are held")
        if not self._fits(pool, Place(num_bytes, sessions=1)):
            self._check_queue(now)
        self.num_inside += 1
        self.num_bytes += num_bytes
        return Place(num_bytes)

    def ask(self, now: float, pool: Pool, place: Place, *, sessions: int, tokens: int) -> None:
        """Let the request in, or have it wait.

        Raises:
            Overloaded: the queue is full.
            RequestError: it is larger than this gateway ever has room for.
        """
        self._check_size(sessions, tokens)
        place.sessions, place.tokens = sessions, tokens
        if not self.waiting and self._fits(pool, place):
            self._admit(place)
            return
        self._check_queue(now)
        place.standing, place.until_s = Standing.WAITING, now + self.limits.patience_s
        self.waiting.append(place)

    def turn(self, now: float, pool: Pool) -> list[Place]:
        """Those that do not wait any longer: expired, or admitted because there is room by now."""
        gone = [place for place in self.waiting if now >= place.until_s]
        for place in gone:
            place.standing = Standing.EXPIRED
            self.waiting.remove(place)
        while self.waiting and self._fits(pool, self.waiting[0]):
            place = self.waiting.popleft()
            self._admit(place)
            gone.append(place)
        return gone

    def opened(self, place: Place) -> None:
        """Its sessions are the pipeline's from here on, which counts them itself."""
        self.promised -= place.promised
        place.promised = 0

    def leave(self, now: float, place: Place) -> None:
        """Give back whatever the request holds; once."""
        if place.standing is Standing.LEFT:
            return
        if place.standing is Standing.WAITING:
            self.waiting.remove(place)
        elif place.standing is Standing.ADMITTED:
            self.opened(place)
            self.tokens -= place.tokens
            self._departures.note(now)
        place.standing = Standing.LEFT
        self.num_inside -= 1
        self.num_bytes -= place.num_bytes

    def expired(self, now: float) -> Overloaded:
        """What is said to a request that has waited too long."""
        return Overloaded(
            f"no room became free within {self.limits.patience_s:g} s; try again later",
            code="queue_timeout",
            retry_after_s=self._wait_s(now),
        )

    def _admit(self, place: Place) -> None:
        place.standing, place.promised = Standing.ADMITTED, place.sessions
        self.promised += place.sessions
        self.tokens += place.tokens

    def _fits(self, pool: Pool, place: Place) -> bool:
        sessions = self.promised + place.sessions
        return (
            pool.num_open + sessions <= self.limits.sessions
            and sessions <= pool.room
            and self.tokens + place.tokens <= self.limits.tokens
        )

    def _check_queue(self, now: float) -> None:
        if len(self.waiting) >= self.limits.waiting:
            raise self._overloaded(now, "all sessions are taken and as many requests wait as may")

    def _check_size(self, sessions: int, tokens: int) -> None:
        for asked, limit, what in (
            (sessions, self.limits.sessions, "sessions"),
            (tokens, self.limits.tokens, "tokens"),
        ):
            if asked > limit:
                raise RequestError(
                    f"the request asks for {asked} {what} at once, prompts and choices together; this gateway takes {limit}",
                    code="request_too_large",
                )

    def _overloaded(self, now: float, why: str) -> Overloaded:
        return Overloaded(f"{why}; try again later", retry_after_s=self._wait_s(now))

    def _wait_s(self, now: float) -> float:
        return self._departures.wait_s(now, ahead=len(self.waiting))
