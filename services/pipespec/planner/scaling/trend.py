"""Carries the growth of demand on: a replica takes its time to load, so it has to be asked for before it is needed.

A straight line through the last ``ahead_s`` seconds. It counts when it rises by more than chance would let it
(Student's t, one side, 5 %), and never for more than doubles the demand.
"""

from __future__ import annotations

from collections import deque

_LEAST_POINTS = 5
_CRITICAL_T = 2.0
"""Of 5 % on one side for the six or more degrees of freedom that a line over a few minutes has; a little strict below."""
_MOST_GROWTH = 2.0


class Trend:
    """Demand lately.

    Args:
        ahead_s: that the forecast is for, and that the line goes back; 0 forecasts nothing.
    """

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self._points: deque[tuple[float, float]] = deque()

    def forecast(self, now_s: float, demand: float) -> float:
        """Note the demand now, and say what it will be ``ahead_s`` later; never less than now."""
        self._points.append((now_s, demand))
        while now_s - self._points[0][0] > self._ahead_s:
            self._points.popleft()
        slope = self._slope()
        return min(demand + max(0.0, slope) * self._ahead_s, _MOST_GROWTH * demand)

    def _slope(self) -> float:
        """Per second; 0 where it may be chance."""
        count = len(self._points)
        if count < _LEAST_POINTS:
            return 0.0
        mean_s = sum(at for at, _ in self._points) / count
        mean = sum(demand for _, demand in self._points) / count
        spread = sum((at - mean_s) ** 2 for at, _ in self._points)
        slope = sum((at - mean_s) * (demand - mean) for at, demand in self._points) / spread
        residual = sum((demand - mean - slope * (at - mean_s)) ** 2 for at, demand in self._points)
        error = (residual / (count - 2) / spread) ** 0.5
        return slope if slope > _CRITICAL_T * error else 0.0
