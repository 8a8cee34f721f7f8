"""The stage and the gateway in a simulated world: the same cores, in the same order of acts, as in the services.

A stage works while it has work and applies what arrives in between; a step takes the time that its device says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipespec.planner.simulation.world import World
from pipespec.protocol.gateway_replica import Event, GatewayReplica
from pipespec.protocol.ids import FLEET, Incarnation, SessionId, Topic
from pipespec.protocol.messages import Envelope, Heartbeat, Message, Open, Outbox
from pipespec.protocol.stage_replica import FreeCache, OpenCache, StageReplica
from pipespec.protocol.work import Outcome, Work


class Device(Protocol):
    """Computes the steps of a replica in virtual time."""

    @property
    def context_len(self) -> int:
        """Tokens (prompt and generated) that a session may hold at most."""

    def open(self, message: Open) -> None:
        """Make room for a session; opening it again starts afresh."""

    def close(self, session: SessionId) -> None:
        """Free a session; unknown ones are ignored."""

    def step(self, work: Work) -> Outcome:
        """One session's share of a step."""

    def seconds(self, batch: Sequence[Work]) -> float:
        """How long the step takes."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one step takes at most: sessions, and tokens of all of them."""

    max_batch: int
    max_tokens: int


class _Speaker:
    """A node's voice: numbers its messages."""

    def __init__(self, inbox: Topic, incarnation: Incarnation) -> None:
        self._inbox = inbox
        self._incarnation = incarnation
        self._number = 0

    @property
    def inbox(self) -> Topic:
        """Where the node is reached."""
        return self._inbox

    def wrap(self, message: Message) -> Envelope:
        """A message of this node with the next number."""
        self._number += 1
        return Envelope(self._inbox, self._incarnation, self._number, message)


class StageNode(_Speaker):
    """A stage replica."""

    def __init__(
        self,
        world: World,
        core: StageReplica,
        device: Device,
        limits: StepLimits,
        incarnation: Incarnation,
        *,
        heartbeat_s: float,
    ) -> None:
        super().__init__(core.place.inbox, incarnation)
        self.core = core
        self.device = device
        self._world = world
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._beat_s = float("-inf")
        self._turns = 0
        self._is_busy = False

    def receive(self, envelope: Envelope) -> None:
        """Apply a message and work if idle."""
        self.core.on_envelope(self._world.clock(self.inbox), envelope)
        self._turn()

    def tick(self) -> None:
        """Timers and the heartbeat."""
        self.core.on_timer(self._world.clock(self.inbox))
        self._turns += 1
        self.beat()
        self._turn()

    def beat(self) -> None:
        """The heartbeat, when it is time: the bus thread's, which a hung loop does not stop."""
        now = self._world.clock(self.inbox)
        if now - self._beat_s >= self._heartbeat_s:
            self._beat_s = now
            self._world.send(self, FLEET, self._heartbeat())

    def _heartbeat(self) -> Heartbeat:
        return self.core.place.heartbeat(
            model="simulated",
            context_len=self.device.context_len,
            draining=False,
            turn=self._turns,
            sessions=len(self.core.sessions),
            counters=self.core.totals(),
        )

    def _turn(self) -> None:
        """What the stage's loop does: orders, publications, the next step."""
        for order in self.core.orders:
            match order:
                case OpenCache(message=message):
                    self.device.open(message)
                case FreeCache(session=session):
                    self.device.close(session)
        self.core.orders.clear()
        _publish(self._world, self, self.core.outbox)
        if self._is_busy:
            return
        now, limits = self._world.clock(self.inbox), self._limits
        batch = self.core.work(now, max_batch=limits.max_batch, max_tokens=limits.max_tokens)
        if batch:
            self._is_busy = True
            results = [(work, self.device.step(work)) for work in batch]
            seconds = self.device.seconds(batch)
            self._world.after_step(self, seconds, lambda: self._finish(now, results))

    def _finish(self, began_s: float, results: list[tuple[Work, Outcome]]) -> None:
        now = self._world.clock(self.inbox)
        self._is_busy = False
        busy_us = round((now - began_s) * 1e6 / len(results))
        shares = []
        for work, outcome in results:
            self.core.on_outcome(now, work, outcome, busy_us=busy_us)
            session = self.core.sessions.get(work.session)
            if session is not None and session.last_share is not None:
                shares.append(session.last_share)
        rank, inbox = self.core.place.rank, self.inbox
        self._world.witness.on_step(rank, inbox=inbox, began_s=began_s, ended_s=now, shares=shares)
        self._turn()


class GatewayNode(_Speaker):
    """A gateway; ``on_event`` is told what its clients would see."""

    def __init__(
        self,
        world: World,
        core: GatewayReplica,
        inbox: Topic,
        incarnation: Incarnation,
        *,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__(inbox, incarnation)
        self.core = core
        self._world = world
        self._on_event = on_event

    def receive(self, envelope: Envelope) -> None:
        """Apply a message, tell clients."""
        self.core.on_envelope(self._world.clock(self.inbox), envelope)
        self.turn()

    def tick(self) -> None:
        """Timers."""
        self.core.on_timer(self._world.clock(self.inbox))
        self.turn()

    def turn(self) -> None:
        """Tell the clients and publish; to be called after every request to the core."""
        events, self.core.events = self.core.events, []
        for event in events:
            self._on_event(event)
        _publish(self._world, self, self.core.outbox)


def _publish(world: World, node: StageNode | GatewayNode, outbox: Outbox) -> None:
    for topic, message in outbox.take():
        world.send(node, topic, message)
