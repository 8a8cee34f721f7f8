"""The stage's loop: drain the inbox, apply, pick the batch, one forward pass, publish.

One thread owns all session state and the engine; the bus thread only brings and takes messages. What a step found out
is published with the next one: before it where the engine computes in this thread, beside it on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipespec.bus.link import BusLink
from pipespec.ops.errors import OutOfMemory
from pipespec.protocol.ids import FLEET
from pipespec.protocol.messages import Heartbeat
from pipespec.protocol.stage_replica import FreeCache, OpenCache, StageReplica
from pipespec.protocol.work import CacheUse, Engine, Outcome, Work
from pipespec.stage.step_size import StepSize

Clock = Callable[[], float]

_NO_ROOM_S = 0.005
"""Between two tries when the cache had room for nobody's work."""


class StageLoop:
    """Runs one replica's core over one engine and one link. Times are seconds of a monotonic clock."""

    def __init__(
        self,
        core: StageReplica,
        engine: Engine,
        link: BusLink,
        *,
        model: str,
        tick_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self.core = core
        self.turns = 0
        self.turned_s = clock()
        self.draining = False
        self.step_size = StepSize(engine.max_step_tokens)
        self.totals = core.totals()
        self._engine = engine
        self._link = link
        self._model = model
        self._tick_s = tick_s
        self._next_tick_s = 0.0
        self._is_stuck = False
        self._clock = clock

    @property
    def cache_use(self) -> CacheUse:
        """How full the engine's cache is."""
        return self._engine.cache_use

    def turn(self) -> bool:
        """One round; whether a step was made. Waits for messages only when there is nothing to compute."""
        batch = self._prepare(wait_s=_NO_ROOM_S if self._is_stuck else 0.0)
        if not batch:
            batch = self._prepare(wait_s=max(0.0, self._next_tick_s - self._clock()))
        if batch:
            self._step(batch)
        self.turns += 1
        self.turned_s = self._clock()
        return bool(batch)

    def _prepare(self, *, wait_s: float) -> list[Work]:
        for envelope in self._link.receive(wait_s):
            self.core.on_envelope(self._clock(), envelope)
        now = self._clock()
        if now >= self._next_tick_s:
            self._next_tick_s = now + self._tick_s
            self.core.on_timer(now)
            self.totals = self.core.totals()
        batch = self.core.work(now, max_batch=self._engine.max_batch, max_tokens=self.step_size.most)
        self._carry_out_orders()
        if not batch:
            self._publish()
        return batch

    def _step(self, batch: list[Work]) -> None:
        began_us = time.time_ns() // 1000  # noqa: TID251 - only shown: a timeline spans machines
        started_s = self._clock()
        outcomes = self._outcomes(batch)
        ended_s = self._clock()
        busy_us = int((ended_s - started_s) * 1e6 / len(batch))
        self._is_stuck = True
        for work, outcome in zip(batch, outcomes, strict=True):
            self._is_stuck &= outcome.held < work.start + len(work.tokens)
            self.core.on_outcome(ended_s, work, outcome, busy_us=busy_us)
        self.core.on_step(ended_s, began_us=began_us, took_us=int((ended_s - started_s) * 1e6))

    def _outcomes(self, batch: list[Work]) -> list[Outcome]:
        """Of the step; where the device has no memory for it, that nothing was computed, and the next ones are smaller.

        Raises:
            OutOfMemory: not even a step of one token fits. Ends the process loudly; whoever watches it starts it anew.
        """
        try:
            outcomes = list(self._engine.step(batch, meanwhile=self._publish))
        except OutOfMemory as error:
            tokens = sum(len(work.tokens) for work in batch)
            if tokens == 1:
                raise
            self.step_size.on_out_of_memory(tokens, str(error))
            return [Outcome(picks=(), held=work.start) for work in batch]
        self.step_size.on_good()
        return outcomes

    def _carry_out_orders(self) -> None:
        orders, self.core.orders = self.core.orders, []
        for order in orders:
            match order:
                case OpenCache(message=message):
                    self._engine.open(message.session, prompt=message.prompt, sampling=message.sampling)
                case FreeCache(session=session):
                    self._engine.close(session)

    def _publish(self) -> None:
        self._link.publish(self.core.outbox.take())

    def drain(self, *, timeout_s: float) -> None:
        """Say at once that this replica ends; go on working until its sessions have been moved, or for ``timeout_s``."""
        self.draining = True
        self._link.publish([(FLEET, self.heartbeat())])
        until_s = self._clock() + timeout_s
        while self.core.sessions and self._clock() < until_s:
            self.turn()
        self._publish()

    def heartbeat(self) -> Heartbeat:
        """What the fleet hears of this replica; called from the bus thread, reads plain values only."""
        return self.core.place.heartbeat(
            model=self._model,
            context_len=0 if self._engine.is_model_free else self._engine.context_len,
            draining=self.draining,
            turn=self.turns,
            sessions=len(self.core.sessions),
            counters=self.totals,
        )
