"""Loads to scale for: steps, spikes, day and night, and recorded ones. Seeded; arrivals are Poisson within a piece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import cos, exp, pi
from pathlib import Path
from random import Random
from typing import Any

RECORDED = Path(__file__).parent.parent / "loads"
MEAN_TOKENS = 200
"""Of an answer; the mean of the recorded conversations is 211."""
_SIGMA = 0.6
"""Of the logarithm of an answer's length."""
_LEAST_TOKENS = 16
_MOST_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A session to be: when it comes, and tokens that it will say."""

    at_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals.

    Attributes:
        name: for tables.
        pieces: (seconds, sessions per second), one after the other.
        seed: of what is left to chance.
    """

    name: str
    pieces: tuple[tuple[float, float], ...]
    seed: int = 1

    @property
    def length_s(self) -> float:
        """Of the whole load."""
        return sum(seconds for seconds, _ in self.pieces)

    def arrivals(self) -> Iterator[Arrival]:
        """All of them, in order; the same every time."""
        luck, begin_s = Random(self.seed), 0.0
        for seconds, rate in self.pieces:
            now_s = begin_s
            while rate > 0:
                now_s += luck.expovariate(rate)
                if now_s >= begin_s + seconds:
                    break
                yield Arrival(now_s, _tokens(luck))
            begin_s += seconds


def _tokens(luck: Random) -> int:
    length = MEAN_TOKENS * exp(luck.gauss(0.0, 1.0) * _SIGMA - _SIGMA**2 / 2)
    return round(min(max(length, _LEAST_TOKENS), _MOST_TOKENS))


def steps() -> Load:
    """Half an hour each at 0.5, 4, 1.5, 6 and 0.5 sessions per second."""
    return Load("steps", tuple((1800.0, rate) for rate in (0.5, 4.0, 1.5, 6.0, 0.5)))


def spikes() -> Load:
    """One session per second, and every half hour three minutes of five; three hours."""
    return Load("spikes", ((360.0, 1.0), (180.0, 5.0), (1260.0, 1.0)) * 6)


def day() -> Load:
    """Between 0.2 sessions per second at four in the morning and 5 at four in the afternoon, as a cosine, from midnight on."""
    hours = [minute / 60 for minute in range(0, 1440, 5)]
    rates = [0.2 + 4.8 * (1 - cos(2 * pi * (hour - 4) / 24)) / 2 for hour in hours]
    return Load("day and night", tuple((300.0, rate) for rate in rates))


def recorded(name: str) -> Load:
    """One of ``benchmarks/loads``: arrivals as recorded, answers as in the others."""
    document: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return Load(name, tuple(_rates(document["points"])))


def _rates(points: Iterable[tuple[float, int]]) -> Iterator[tuple[float, float]]:
    for (at_s, count), (later_s, later_count) in pairwise(points):
        if later_s > at_s:
            yield later_s - at_s, (later_count - count) / (later_s - at_s)


def all_loads() -> tuple[Load, ...]:
    """Those that policies are compared on."""
    return steps(), spikes(), day(), recorded("azure-conv"), recorded("azure-code")
