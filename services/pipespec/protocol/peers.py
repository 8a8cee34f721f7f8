"""Who is speaking: drops duplicates and the voices of former incarnations.

A restarted process draws a new incarnation. The first message of a new one retires the old, so that what the old
process still had in flight is dropped; no clock is compared. Message numbers drop what two brokers deliver twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from pipespec.protocol.ids import Incarnation, Topic
from pipespec.protocol.messages import Envelope
from pipespec.protocol.rules import Rules

_REMEMBERED = 1024
"""Numbers remembered per peer; a duplicate that comes later than this is harmless, only wasteful."""

_MAX_PEERS = 4096
"""Peers remembered, those heard of last; pods come and go for ever."""


@dataclass(slots=True)
class _Peer:
    incarnation: Incarnation
    retired: deque[Incarnation] = field(default_factory=lambda: deque(maxlen=16))
    seen: set[int] = field(default_factory=set)
    order: deque[int] = field(default_factory=deque)


class Peers:
    """Everyone that this process has heard of."""

    def __init__(self, rules: Rules) -> None:
        self._peers: OrderedDict[Topic, _Peer] = OrderedDict()
        self._rules = rules

    def accept(self, envelope: Envelope) -> bool:
        """Whether the envelope is new and from the living incarnation of its sender."""
        if not self._rules.fence_epochs:
            return True
        peer = self._peers.get(envelope.sender)
        if peer is None:
            peer = self._peers[envelope.sender] = _Peer(envelope.incarnation)
            if len(self._peers) > _MAX_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(envelope.sender)
        if envelope.incarnation != peer.incarnation:
            if envelope.incarnation in peer.retired:
                return False
            peer.retired.append(peer.incarnation)
            peer.incarnation = envelope.incarnation
            peer.seen.clear()
            peer.order.clear()
        if envelope.number in peer.seen:
            return False
        peer.seen.add(envelope.number)
        peer.order.append(envelope.number)
        if len(peer.order) > _REMEMBERED:
            peer.seen.discard(peer.order.popleft())
        return True
