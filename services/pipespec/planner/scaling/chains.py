"""Every chain that ends with the target, with what its streams' speed depends on: capacity, and agreement as it is now."""

from __future__ import annotations

from itertools import pairwise

from pipespec.emulation.chain import emulation_of
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.capacity import Capacity
from pipespec.planner.variants import agreement_between, with_stages

_NEWS = 1.15
"""Rejections so many times as frequent, or as rare, are taken over; less is noise, and working out anew takes time."""
_FARTHEST = 2.0
"""From the profile: what a minute of one kind of text says of all texts has limits."""
_PATIENCE = 0.1
"""Weight of one snapshot in the running mean."""

Pair = tuple[int, int]
"""Ranks of a draft and of the stage that checks it."""


class Chains:
    """Capacities of all chains, worked out when they are asked for.

    Args:
        pipeline: of emulated stages.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._capacities: dict[tuple[int, ...], Capacity] = {}
        self._heard: dict[Pair, float] = {}
        self._used: dict[Pair, float] = {}

    def capacity(self, chain: tuple[int, ...]) -> Capacity:
        """Of these stages."""
        if chain not in self._capacities:
            self._capacities[chain] = Capacity(self._agreeing(chain))
        return self._capacities[chain]

    def hear(self, chain: tuple[int, ...], agreements: tuple[float | None, ...]) -> None:
        """Take note of what stages say of the stage before them.

        Args:
            chain: stages that take part now.
            agreements: of every stage of the pipeline with the one that is before it in ``chain``.
        """
        for pair in pairwise(chain):
            measured = agreements[pair[1]]
            if measured is None:
                continue
            profile = self._profiled(pair)
            rejected = min(max(1 - measured, (1 - profile) / _FARTHEST), (1 - profile) * _FARTHEST)
            before = self._heard.get(pair, 1 - profile)
            self._heard[pair] = before + _PATIENCE * (rejected - before)
            self._take_over(pair, self._heard[pair])

    def _take_over(self, pair: Pair, rejected: float) -> None:
        used = 1 - self._used.get(pair, self._profiled(pair))
        if used / _NEWS <= rejected <= used * _NEWS:
            return
        self._used[pair] = 1 - rejected
        self._capacities = {c: known for c, known in self._capacities.items() if pair not in pairwise(c)}

    def _profiled(self, pair: Pair) -> float:
        return agreement_between(self._pipeline, *pair)

    def _agreeing(self, chain: tuple[int, ...]) -> Pipeline:
        part = with_stages(self._pipeline, chain)
        stages = list(part.stages)
        for place, pair in enumerate(pairwise(chain)):
            if pair in self._used:
                emulation = emulation_of(stages[place]).model_copy(update={"agreement": self._used[pair]})
                stages[place] = stages[place].model_copy(update={"emulation": emulation})
        return part.model_copy(update={"stages": tuple(stages)})
