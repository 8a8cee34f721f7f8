"""Carries the growth of demand on: a replica takes its time to load, so it has to be asked for before it is needed.

A straight line through the last minutes. It counts when it rises by more than chance would let it, and never for more than
doubles the demand.
"""

from __future__ import annotations

from collections import deque

_LEAST_POINTS = 5
_STEADY_S = 300.0
"""A shorter line is bent by chance."""
_CRITICAL_T = 3.0
"""Slope over its standard error: the largest of many looks counts, because giving up waits, so one in twenty is too often."""
_MOST_GROWTH = 2.0


class Trend:
    """Demand lately.

    Args:
        ahead_s: that the forecast is for; 0 forecasts nothing.
    """

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self._points: deque[tuple[float, float]] = deque()

    def growth(self, now_s: float, demand: float) -> float:
        """Note the demand now, and say what it will have grown by ``ahead_s`` later."""
        self._points.append((now_s, demand))
        while now_s - self._points[0][0] > max(self._ahead_s, _STEADY_S):
            self._points.popleft()
        return min(max(0.0, self._slope()) * self._ahead_s, (_MOST_GROWTH - 1) * demand)

    def forget(self) -> None:
        """The past says nothing of what comes."""
        self._points.clear()

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
