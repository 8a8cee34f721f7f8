"""The gateways of a fleet, as one of them hears their heartbeats: whom it is worth asking for a stream.

A name that nobody bears would only be waited for. Who has just begun to listen, or was cut off, may not have heard everybody yet, so
that every name counts then; who fell silent counts for a while. One owner, no locks.
"""

from __future__ import annotations

from collections import OrderedDict

from pipespec.protocol.ids import Topic
from pipespec.protocol.timers import Timers

MAX_FELLOWS = 1024
"""Gateways remembered, those heard of last."""


class Fellows:
    """All gateways heard of, oneself included."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._heard_s: OrderedDict[Topic, float] = OrderedDict()
        self._listening_s: float | None = None
        self._last_s = float("-inf")

    def on_heartbeat(self, now: float, sender: Topic) -> None:
        """A gateway has said that it lives."""
        if self._listening_s is None or now - self._last_s > self._timers.dead_s:
            self._listening_s = now
        self._last_s = self._heard_s[sender] = now
        self._heard_s.move_to_end(sender)
        if len(self._heard_s) > MAX_FELLOWS:
            self._heard_s.popitem(last=False)

    def may_exist(self, now: float, inbox: Topic) -> bool:
        """Whether a gateway with this inbox could answer."""
        is_new_here = self._listening_s is None or now - self._listening_s < self._timers.dead_s
        is_cut_off = now - self._last_s > self._timers.dead_s
        heard_s = self._heard_s.get(inbox, float("-inf"))
        return is_new_here or is_cut_off or now - heard_s < self._timers.lost_s
