"""How fast room becomes free, from the requests that have left: what ``Retry-After`` rests on. Sans-I/O."""

from __future__ import annotations

_WEIGHT = 0.1
"""Of the newest gap; older ones fade."""
SOONEST_S = 1.0
"""What is said when nothing is known, and at least: HTTP counts whole seconds."""
LATEST_S = 60.0
"""Nobody is sent away for longer: the load may be over by then."""


class Departures:
    """A fading mean of the time from one departure to the next. Times are the caller's seconds."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._gap_s: float | None = None

    def note(self, now: float) -> None:
        """A request has left."""
        if self._last_s is not None:
            gap_s = now - self._last_s
            self._gap_s = gap_s if self._gap_s is None else self._gap_s + _WEIGHT * (gap_s - self._gap_s)
        self._last_s = now

    def wait_s(self, now: float, *, ahead: int) -> float:
        """Until room is to be expected for one more when ``ahead`` others are to get theirs first."""
        if self._last_s is None or self._gap_s is None:
            return SOONEST_S
        gap_s = max(self._gap_s, (now - self._last_s) / (ahead + 1))  # it has stopped: the mean is too good
        return min(LATEST_S, max(SOONEST_S, gap_s * (ahead + 1)))
