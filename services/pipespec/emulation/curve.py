"""How long a step of a device takes, as a function of the tokens in it.

Measured or made up; read by the emulated engine and by the planner. Verifying several tokens may cost far more than
decoding one (4-bit 70B: 120 ms for one, 428 ms for two), so a curve is a list of points, not a formula.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from operator import itemgetter

from pipespec.ops.errors import SettingsError

_tokens_of = itemgetter(0)


@dataclass(frozen=True, slots=True)
class LatencyCurve:
    """Milliseconds per step: linear between points, flat before the first, straight on after the last.

    Attributes:
        points: (tokens in the step, milliseconds), at least one, tokens >= 1 and ascending. After the last one the slope
            of the last two goes on, unless it falls, or they are at 1 and 2: that is a step, flat from there on.
        session_ms: for every session of a step but the first.
    """

    points: tuple[tuple[int, float], ...]
    session_ms: float = 0.0

    def __post_init__(self) -> None:
        """Check all points.

        Raises:
            SettingsError: there is none, tokens do not ascend from 1 on, or a time is negative or not finite.
        """
        if not self.points:
            raise SettingsError(
                "a latency curve needs at least one point (tokens in the step: milliseconds); got none"
            )
        before = 0
        for num_tokens, milliseconds in self.points:
            if num_tokens <= before:
                raise SettingsError(
                    f"a latency curve's tokens must ascend from 1 on; got {num_tokens} after {before}"
                )
            _check_ms(f"the time of {num_tokens} tokens", milliseconds)
            before = num_tokens
        _check_ms("'session_ms'", self.session_ms)

    def ms(self, num_tokens: int, num_sessions: int = 1) -> float:
        """Milliseconds of a step.

        Args:
            num_tokens: of all sessions of the step together, prompt tokens too.
            num_sessions: that share it.
        """
        return self._at(num_tokens) + self.session_ms * max(0, num_sessions - 1)

    def _at(self, num_tokens: int) -> float:
        points = self.points
        right = bisect_left(points, num_tokens, key=_tokens_of)
        if right == 0 or len(points) == 1:
            return points[0][1]
        is_beyond = right == len(points)
        right = min(right, len(points) - 1)
        (tokens, milliseconds), (next_tokens, next_ms) = points[right - 1], points[right]
        slope = (next_ms - milliseconds) / (next_tokens - tokens)
        if is_beyond:
            if next_tokens == 2:  # a step from one token to several
                return next_ms
            return next_ms + max(0.0, slope) * (num_tokens - next_tokens)
        return milliseconds + slope * (num_tokens - tokens)


def _check_ms(what: str, milliseconds: float) -> None:
    if not (math.isfinite(milliseconds) and milliseconds >= 0):
        raise SettingsError(f"{what} in a latency curve must be 0 ms or more; got {milliseconds}")
