"""Nodes, a network, and virtual time: one heap of (time, order, action).

No wall clock, no dependence on hash seeds: the same start gives the same run. Nodes are reached by their inbox, as on the
bus; the network decides what arrives of a message, and when. Times are seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pipespec.protocol.ids import FLEET, Topic
from pipespec.protocol.messages import Envelope, Message, StepShare

Copy = tuple[float, Envelope]
"""One arrival of a message: seconds from now, and what arrives."""


class Node(Protocol):
    """A process of the pipeline."""

    @property
    def inbox(self) -> Topic:
        """Where it is reached."""

    def wrap(self, message: Message) -> Envelope:
        """A message of this node with the next number."""

    def receive(self, envelope: Envelope) -> None:
        """Apply one message."""

    def tick(self) -> None:
        """Timers."""


class Network(Protocol):
    """Carries messages between inboxes."""

    def carry(self, now: float, envelope: Envelope, sink: Topic) -> Iterable[Copy]:
        """What arrives at ``sink`` of a message sent now; nothing where it is lost."""


class Witness:
    """Is told what happens; this one forgets it."""

    def on_send(self, now: float, topic: Topic, envelope: Envelope) -> None:
        """A message was published."""

    def on_step(
        self, rank: int, *, inbox: Topic, began_s: float, ended_s: float, shares: Sequence[StepShare]
    ) -> None:
        """A step of a replica of stage ``rank`` has ended, by its clock; ``shares`` are what its sessions had of it."""


class World:
    """All nodes and what is still to happen.

    Args:
        network: carries all messages.
        tick_s: between two ticks of a node.
        witness: is told of steps and messages.
    """

    def __init__(self, network: Network, *, tick_s: float, witness: Witness | None = None) -> None:
        self.now = 0.0
        self.messages = 0
        self.nodes: dict[Topic, Node | None] = {}
        self.witness = witness or Witness()
        self._network = network
        self._tick_s = tick_s
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action later."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + seconds, self._order, action))

    def run(self, until: float, *, done: Callable[[], bool] = lambda: False) -> bool:
        """Run events up to a time; True as soon as ``done``."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            if done():
                return True
        self.now = until
        return done()

    def join(self, node: Node, *, first_tick_s: float = 0.0) -> None:
        """Add a node, or let it take the place of a former one of its name, whose ticks go on."""
        is_new = node.inbox not in self.nodes
        self.nodes[node.inbox] = node
        if is_new:
            self.after(first_tick_s, lambda: self._tick(node.inbox))

    def leave(self, inbox: Topic) -> None:
        """The node is gone; what is under way to it is lost."""
        self.nodes[inbox] = None

    def is_alive(self, node: Node) -> bool:
        """Whether this very node still runs."""
        return self.nodes[node.inbox] is node

    def clock(self, inbox: Topic) -> float:
        """What the monotonic clock of a node's machine shows; here all show the same."""
        del inbox
        return self.now

    def after_step(self, node: Node, seconds: float, action: Callable[[], None]) -> None:
        """Run what follows a node's computation; the end of a node that is gone comes never."""
        self.after(seconds, lambda: action() if self.is_alive(node) else None)

    def send(self, node: Node, topic: Topic, message: Message) -> None:
        """Publish one message; what is for the fleet goes to the gateways."""
        envelope = node.wrap(message)
        self.witness.on_send(self.now, topic, envelope)
        for sink in self._gateways() if topic == FLEET else (topic,):
            for delay_s, arriving in self._network.carry(self.now, envelope, sink):
                self.after(delay_s, lambda sink=sink, arriving=arriving: self._deliver(sink, arriving))  # type: ignore[misc] # mypy does not infer lambdas with defaults

    def _gateways(self) -> list[Topic]:
        return [inbox for inbox in self.nodes if inbox.startswith(b"gateway.")]

    def _deliver(self, sink: Topic, envelope: Envelope) -> None:
        node = self.nodes.get(sink)
        if node is not None:
            self.messages += 1
            node.receive(envelope)

    def _tick(self, inbox: Topic) -> None:
        node = self.nodes[inbox]
        if node is not None:
            node.tick()
        self.after(self._tick_s, lambda: self._tick(inbox))
