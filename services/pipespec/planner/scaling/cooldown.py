"""Steadies what is wanted: up after a need has lasted, down after it has been gone for long enough.

Per stage, over the needs of a past window: up to the smallest of the last ``up_s`` seconds, down to the largest of the last
``down_s``. Before there is so much past, what was asked for at the beginning counts as needed. What a surge needed is kept for
longer: a surge comes faster than replicas do, so only those that are there already help against the next one.
"""

from __future__ import annotations

from collections import deque

Replicas = tuple[int, ...]
"""By rank."""


class Cooldown:
    """Needs lately.

    Args:
        up_s: that a need has to last.
        down_s: that a need has to be gone.
        surge_s: that a surge has to be gone.
    """

    def __init__(self, *, up_s: float, down_s: float, surge_s: float) -> None:
        self._up_s = up_s
        self._down_s = down_s
        self._surge_s = surge_s
        self._needs: deque[tuple[float, Replicas]] = deque()
        self._surges: deque[tuple[float, Replicas]] = deque()

    def steadied(
        self, now_s: float, *, asked: Replicas, needed: Replicas, in_surge: bool = False
    ) -> Replicas:
        """Note a need and say what to ask for."""
        if in_surge:
            self._surges.append((now_s, needed))
        while self._surges and self._surges[0][0] <= now_s - self._surge_s:
            self._surges.popleft()
        if not self._needs:
            self._needs.append((now_s, asked))
        self._needs.append((now_s, needed))
        while len(self._needs) > 1 and self._needs[1][0] <= now_s - max(self._up_s, self._down_s):
            self._needs.popleft()
        least = [min(of_stage) for of_stage in zip(*self._since(now_s - self._up_s), strict=True)]
        kept = [*self._since(now_s - self._down_s), *(surge for _, surge in self._surges)]
        most = [max(of_stage) for of_stage in zip(*kept, strict=True)]
        return tuple(max(low, min(high, now)) for low, high, now in zip(least, most, asked, strict=True))

    def _since(self, start_s: float) -> list[Replicas]:
        """Needs in force at any time since then; the last one before it was."""
        recent = [needed for at_s, needed in self._needs if at_s > start_s]
        before = [needed for at_s, needed in self._needs if at_s <= start_s]
        return before[-1:] + recent if recent else before[-1:]
