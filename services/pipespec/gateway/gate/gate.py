"""The gate on the event loop: a permit for every request, from its arrival until it is delivered.

One gate for all client protocols of a gateway. The ledger decides; this side waits and wakes. Refusals cost no tokenizing: who
cannot even wait is sent away on arrival.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipespec.gateway.gate.arriving import Arriving
from pipespec.gateway.gate.ledger import Ledger, Limits, Place, Pool, Standing
from pipespec.ops.errors import Overloaded, RequestError, Unavailable

_Clock = Callable[[], float]


class Permit:
    """What a request holds of the gate; ``leave`` gives it back, however the request ends."""

    def __init__(self, gate: Gate, place: Place) -> None:
        self._gate = gate
        self._place = place

    async def admitted(self, *, sessions: int, tokens: int) -> None:
        """Wait until there is room for so many sessions and tokens, then open them at once.

        Raises:
            Overloaded: there was none in time (``queue_timeout``), or too many wait.
            Unavailable: no target is left, or the gateway is draining.
            RequestError: there never will be.
        """
        await self._gate.wait_for(self._place, sessions=sessions, tokens=tokens)

    def opened(self) -> None:
        """The sessions are open and counted as such."""
        self._gate.ledger.opened(self._place)

    def leave(self) -> None:
        """The request is over; a second call does nothing."""
        self._gate.leave(self._place)


class Gate:
    """Lets requests in.

    Args:
        limits: of what is inside.
        pool: asked for what the pipeline holds and can take; None while it has no usable target.
        clock: monotonic seconds.

    Attributes:
        ledger: the counters.
        arriving: counts what has not entered yet, because it is still being read.
        num_refused: requests sent away for want of room since the start.
    """

    def __init__(
        self, limits: Limits, *, pool: Callable[[], Pool | None], clock: _Clock = time.monotonic
    ) -> None:
        self.ledger = Ledger(limits)
        self.arriving = Arriving(limits.num_bytes)
        self.num_refused = 0
        self._left = asyncio.Event()
        self._pool = pool
        self._clock = clock
        self._waiters: dict[Place, asyncio.Future[None]] = {}
        self._refusal: Callable[[], RequestError] | None = None

    def enter(self, *, num_bytes: int) -> Permit:
        """Count a request in.

        Raises:
            Overloaded: there is no room, not even to wait.
            Unavailable: no target is there, or the gateway is draining.
        """
        self._check_open()
        pool = self._usable_pool()
        with self._counted():
            return Permit(self, self.ledger.enter(self._clock(), pool, num_bytes=num_bytes))

    async def wait_for(self, place: Place, *, sessions: int, tokens: int) -> None:
        """See ``Permit.admitted``."""
        self._check_open()
        pool = self._usable_pool()
        with self._counted():
            self.ledger.ask(self._clock(), pool, place, sessions=sessions, tokens=tokens)
            if place.standing is Standing.ADMITTED:
                return
            waiter = self._waiters[place] = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                del self._waiters[place]

    def turn(self) -> None:
        """Room may have become free, or time has passed: wake those that need not wait any longer."""
        if not self.ledger.waiting:
            return
        now, pool = self._clock(), self._pool()
        for place in self.ledger.turn(now, pool or Pool(0, 0)):
            waiter = self._waiters.get(place)
            if waiter is None or waiter.done():
                continue  # it was cancelled this very moment, and leaves
            if place.standing is Standing.ADMITTED:
                waiter.set_result(None)
            else:
                waiter.set_exception(Unavailable.no_target() if pool is None else self.ledger.expired(now))

    def leave(self, place: Place) -> None:
        """See ``Permit.leave``."""
        self.ledger.leave(self._clock(), place)
        self._left.set()
        self.turn()

    def close(self, refusal: Callable[[], RequestError]) -> None:
        """Send away those that wait and everyone who comes from now on, each with a ``refusal`` of its own."""
        self._refusal = refusal
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(refusal())

    async def empty(self) -> None:
        """Wait until every request has left."""
        while self.ledger.num_inside:
            self._left.clear()
            await self._left.wait()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except Overloaded:
            self.num_refused += 1
            raise

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def _usable_pool(self) -> Pool:
        pool = self._pool()
        if pool is None:
            raise Unavailable.no_target()
        return pool
