"""What the steps of a running pipeline tell about its stages: latency curves and agreements.

A step's time is taken as a function of its tokens, plus something for every session after the first. The agreement of a
stage with the next is estimated per token: of the candidates that were reached, the share that was right. After the first wrong
one the rest is not judged. (Maximum likelihood for a sequence that ends with its first failure, the model of Leviathan
et al. 2023.)
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from pipespec.emulation.curve import LatencyCurve
from pipespec.protocol.ids import Rank
from pipespec.protocol.messages import Stepped

MIN_SAMPLES = 3
"""Steps that make a point of a curve."""
MAX_POINTS = 24


class StageMeasurement:
    """Steps of all replicas of one stage."""

    def __init__(self) -> None:
        self.num_steps = 0
        self._alone_ms: defaultdict[int, list[float]] = defaultdict(list)
        self._shared: list[tuple[int, int, float]] = []
        self._right = 0
        self._wrong = 0
        self._silent = 0

    def add(self, step: Stepped) -> None:
        """Count a step."""
        self.num_steps += 1
        num_tokens, ms = sum(share.fed for share in step.shares), step.took_us / 1000
        if len(step.shares) == 1:
            self._alone_ms[num_tokens].append(ms)
        else:
            self._shared.append((num_tokens, len(step.shares), ms))
        for share in step.shares:
            self._right += share.accepted
            self._wrong += share.accepted < share.candidates
            self._silent += share.candidates == 0 and share.said > 0

    @property
    def num_judged(self) -> int:
        """Candidates that were found right or wrong."""
        return self._right + self._wrong

    @property
    def agreement(self) -> float | None:
        """Of the earlier stage with this one, per token; None where nothing was checked."""
        return self._right / self.num_judged if self.num_judged else None

    @property
    def agreement_with_silence(self) -> float | None:
        """The same, where a step without candidates counts as a wrong one: of a stage that does not always guess."""
        judged = self.num_judged + self._silent
        return self._right / judged if judged else None

    def curve(self) -> LatencyCurve | None:
        """Milliseconds by tokens in the step; None where too few steps of one session were seen."""
        points = self._pooled()
        if not points:
            return None
        stride = -(-len(points) // MAX_POINTS)
        chosen = points[::stride] if points[-1] in points[::stride] else [*points[::stride], points[-1]]
        alone = LatencyCurve(tuple((tokens, round(ms, 3)) for tokens, ms in chosen))
        surplus = [(ms - alone.ms(tokens)) / (sessions - 1) for tokens, sessions, ms in self._shared]
        session_ms = max(0.0, median(surplus)) if len(surplus) >= MIN_SAMPLES else 0.0
        return LatencyCurve(alone.points, session_ms=round(session_ms, 3))

    def _pooled(self) -> list[tuple[int, float]]:
        """Points of at least ``MIN_SAMPLES`` steps; where a size is too rare, with the next larger ones up to twice its own.

        A pool stands at its smallest size: what differs most is one token from several. One that stays too small is left out.
        """
        points: list[tuple[int, float]] = []
        pool: list[float] = []
        smallest = 0
        for num_tokens, times in sorted(self._alone_ms.items()):
            if not pool or num_tokens > 2 * smallest:
                smallest, pool = num_tokens, []
            pool += times
            if len(pool) >= MIN_SAMPLES:
                points.append((smallest, median(pool)))
                pool = []
        return points


class Measurement:
    """All stages of one pipeline."""

    def __init__(self) -> None:
        self.stages: defaultdict[Rank, StageMeasurement] = defaultdict(StageMeasurement)

    def add(self, message: object) -> None:
        """Count a message; only steps matter."""
        if isinstance(message, Stepped):
            self.stages[message.rank].add(message)
