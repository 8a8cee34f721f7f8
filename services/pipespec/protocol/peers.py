"""Who is speaking: drops duplicates and the voices of other incarnations.

A restarted process draws a new incarnation. Each process beats, so the present one is never silent for long while it
lives: another incarnation is heard only once the present one has been silent for ``dead_s``. What a former process
still had in flight, a second process under the same name, or a stray message can therefore not take a living
process's place. Message numbers drop what two brokers deliver twice.
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
    heard_s: float
    seen: set[int] = field(default_factory=set)
    order: deque[int] = field(default_factory=deque)


class Peers:
    """Everyone that this process has heard of."""

    def __init__(self, rules: Rules, *, dead_s: float) -> None:
        self._peers: OrderedDict[Topic, _Peer] = OrderedDict()
        self._rules = rules
        self._dead_s = dead_s

    def accept(self, now: float, envelope: Envelope) -> bool:
        """Whether the envelope is new and from the living incarnation of its sender."""
        if not self._rules.fence_incarnations:
            return True
        peer = self._peers.get(envelope.sender)
        if peer is None or (envelope.incarnation != peer.incarnation and now - peer.heard_s > self._dead_s):
            peer = self._peers[envelope.sender] = _Peer(envelope.incarnation, now)
            if len(self._peers) > _MAX_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(envelope.sender)
        if envelope.incarnation != peer.incarnation:
            return False
        peer.heard_s = now
        if envelope.number in peer.seen:
            return False
        peer.seen.add(envelope.number)
        peer.order.append(envelope.number)
        if len(peer.order) > _REMEMBERED:
            peer.seen.discard(peer.order.popleft())
        return True
