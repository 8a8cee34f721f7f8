"""Clients that send what is no message at all, again and again: after some of it nothing of theirs is read for a while.

Each message of such a client costs a parse and an answer. A wrong value is no offence: programs that pass on other people's
requests send those. The event loop owns it; times are the loop's.
"""

from __future__ import annotations

from collections import OrderedDict, deque

MAX_OFFENCES = 10
WINDOW_S = 10.0
"""So many offences within so many seconds; the ban lasts as long."""
_MAX_KNOWN = 1024
"""Clients remembered, those that offended last."""


class Offenders:
    """Who has sent what lately, by identity; libzmq lets no two connections have the same one."""

    def __init__(self) -> None:
        self._offences: OrderedDict[bytes, deque[float]] = OrderedDict()
        self._banned_until: OrderedDict[bytes, float] = OrderedDict()

    def is_banned(self, identity: bytes, now: float) -> bool:
        """Whether nothing of this client is read now."""
        until = self._banned_until.get(identity)
        if until is not None and now >= until:
            del self._banned_until[identity]
            return False
        return until is not None

    def offend(self, identity: bytes, now: float) -> bool:
        """Count an offence; tell whether it was one too many, so that the client is banned from now on."""
        offences = self._offences.setdefault(identity, deque(maxlen=MAX_OFFENCES))
        self._offences.move_to_end(identity)
        offences.append(now)
        _bound(self._offences)
        if len(offences) < MAX_OFFENCES or now - offences[0] > WINDOW_S:
            return False
        del self._offences[identity]
        self._banned_until[identity] = now + WINDOW_S
        _bound(self._banned_until)
        return True


def _bound(known: OrderedDict[bytes, deque[float]] | OrderedDict[bytes, float]) -> None:
    if len(known) > _MAX_KNOWN:
        known.popitem(last=False)
