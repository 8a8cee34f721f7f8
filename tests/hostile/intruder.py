"""Somebody on the bus who is not of the chain: hears what is said there, and says what it likes under any name.

A ``BusLink`` under a foreign inbox: what it sends is well-formed as far as it goes, sealed as everything is. It knows the
incarnation of whom it plays, because it has listened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import zmq

from e2e.detached import Detached
from pipespec.bus.address import publish_endpoints
from pipespec.bus.link import BusLink
from pipespec.protocol.ids import FLEET, Incarnation, Topic, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Envelope, Message, Open, Segment

TARGET, DRAFT, GATEWAY = stage_inbox(1, "r0"), stage_inbox(0, "r0"), gateway_inbox("g0")  # type: ignore[arg-type]
_FAR = 2**40
"""Numbers of forged messages begin here, so that none of the real ones is taken for a double."""


@dataclass
class Intruder:
    """Hears everything; plays one sender."""

    link: BusLink
    heard: list[Envelope] = field(default_factory=list)

    def listen(self) -> None:
        """Take in what has been said."""
        self.heard += self.link.receive(0.2)

    def overhear(self, kind: type[Open] | type[Segment], *, sender: Topic | None = None) -> Envelope:
        """The next such message that is said after now."""
        self.heard.clear()
        for _ in range(300):
            self.listen()
            for envelope in self.heard:
                if isinstance(envelope.message, kind) and sender in (None, envelope.sender):
                    return envelope
        raise AssertionError(f"no {kind.__name__} within a minute")

    def play(self, sender: Topic, incarnation: Incarnation) -> None:
        """Speak under another's name from now on."""
        self.link.inbox, self.link.incarnation, self.link._number = sender, incarnation, _FAR

    def say(self, topic: Topic, *messages: Message) -> None:
        """Publish to somebody's inbox."""
        self.link.publish([(topic, message) for message in messages])


@contextmanager
def intruder(running: Detached) -> Iterator[Intruder]:
    """On the chain's bus while the block runs."""
    link = BusLink(
        running.pipeline.brokers,
        inbox=Topic(b"observer.intruder."),
        topics=[FLEET, TARGET, DRAFT, GATEWAY],
        heartbeat_s=60.0,
    )
    assert link.start()
    try:
        yield Intruder(link)
    finally:
        link.close()


@contextmanager
def raw_publisher(running: Detached) -> Iterator[zmq.Socket[bytes]]:
    """A socket that publishes any frames, once it was told that gateway and target read."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 5000)
        socket.setsockopt(zmq.RCVTIMEO, 30_000)
        for endpoint in publish_endpoints(running.pipeline.brokers):
            socket.connect(endpoint)
        missing = {GATEWAY, TARGET}
        while missing:
            missing.discard(Topic(socket.recv()[1:]))
        yield socket
