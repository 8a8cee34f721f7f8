"""How long to wait after a failure before the next try: doubling, with jitter, so that many clients do not come back at once."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Counts the failures in a row.

    Args:
        first_s: wait after the first one; it doubles with each.
        longest_s: the doubling ends here.
        chance: a number from 0 up to 1; a wait is between half and all of its length.
    """

    def __init__(
        self, *, first_s: float, longest_s: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._num_failures = 0

    def on_failure(self, *, retry_after_s: float = 0.0) -> float:
        """Seconds to wait now, at least as many as the server asks for."""
        length_s = min(self._longest_s, self._first_s * 2.0 ** min(self._num_failures, 32))
        self._num_failures += 1
        return max(retry_after_s, length_s * (0.5 + 0.5 * self._chance()))

    def on_success(self) -> None:
        """Start over."""
        self._num_failures = 0
