"""How fast a stream is that shares its replicas: what the token-level simulator says, kept as a table.

The policies are judged by this and not by the closed forms that the autoscaler decides with. Every entry is a simulation of the
protocol core itself: sessions that are all there all the time, so many on every replica of each stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import log2
from pathlib import Path

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.steady import Speed, steady_speed
from pipespec.planner.variants import sub_chains, with_stages

DRAFT_SHARES = (1, 4, 16, 64, 128)
TARGET_SHARES = (1, 2, 4, 8, 16, 32)

Shares = tuple[int, ...]
"""Sessions on a stream's replica of every stage, itself included; 0 where a stage takes no part."""


@dataclass(slots=True)
class Speeds:
    """The table; between its points logarithms of shares are interpolated."""

    table: dict[Shares, Speed]
    _known: dict[Shares, Speed] = field(default_factory=dict)

    def of(self, shares: Shares) -> Speed:
        """Of streams with these shares, which are not beyond the largest in the table."""
        if shares not in self._known:
            self._known[shares] = self._interpolated(shares)
        return self._known[shares]

    def _interpolated(self, shares: Shares) -> Speed:
        corners = [(self.table[corner], weight) for corner, weight in _corners(shares)]
        return Speed(
            sum(weight * speed.ms_per_token for speed, weight in corners),
            sum(weight * speed.spread for speed, weight in corners),
            tuple(sum(weight * speed.busy[rank] for speed, weight in corners) for rank in range(len(shares))),
        )


def _corners(shares: Shares) -> Iterator[tuple[Shares, float]]:
    """Points of the table around, with their weights."""
    sides = []
    for place, share in enumerate(shares):
        points = TARGET_SHARES if place == len(shares) - 1 else DRAFT_SHARES
        if share in (0, *points) or share > points[-1]:
            sides.append([(min(share, points[-1]), 1.0)])
            continue
        above = next(at for at, point in enumerate(points) if point > share)
        low, high = points[above - 1], points[above]
        weight = log2(share / low) / log2(high / low)
        sides.append([(low, 1 - weight), (high, weight)])
    for corner in product(*sides):
        weight = 1.0
        for _, part in corner:
            weight *= part
        yield tuple(point for point, _ in corner), weight


def simulated(pipeline: Pipeline, shares: Shares) -> Speed:
    """Of a chain of the stages whose share is not 0."""
    ranks = [rank for rank, share in enumerate(shares) if share]
    speed = steady_speed(with_stages(pipeline, ranks), tuple(share for share in shares if share))
    busy = dict(zip(ranks, speed.busy, strict=True))
    return replace(speed, busy=tuple(busy.get(rank, 0.0) for rank in range(len(shares))))


def all_shares(num_stages: int) -> Iterator[Shares]:
    """Of every chain that ends with the target."""
    for chain in sub_chains(num_stages):
        points = [DRAFT_SHARES if rank in chain else (0,) for rank in range(num_stages - 1)]
        yield from product(*points, TARGET_SHARES)


def filled(pipeline: Pipeline, shares: Iterable[Shares]) -> Speeds:
    """Simulate all entries."""
    return Speeds({one: simulated(pipeline, one) for one in shares})


def saved(speeds: Speeds, file: Path) -> None:
    """Write the table."""
    rows = [
        [
            list(shares),
            round(one.ms_per_token, 3),
            round(one.spread, 4),
            [round(busy, 4) for busy in one.busy],
        ]
        for shares, one in sorted(speeds.table.items())
    ]
    file.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def loaded(rows: Sequence[Sequence[object]]) -> Speeds:
    """Read what ``saved`` wrote."""
    return Speeds({tuple(shares): Speed(ms, spread, tuple(busy)) for shares, ms, spread, busy in rows})  # type: ignore[arg-type] # rows of a file that we wrote
