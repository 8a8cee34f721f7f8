"""Other pipelines made of the stages of one: without some of them, with other lookaheads, synchronous, scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import prod

from pipespec.emulation.chain import emulation_of
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageKind, StageSettings

PATIENT_MS = 60_000.0
"""A synchronous step waits for its candidates however slow the draft is."""


def profiled(pipeline: Pipeline, profile: Pipeline) -> Pipeline:
    """A pipeline as if its stages were emulated: latencies and agreements of a profile, all other settings its own.

    Raises:
        SettingsError: the profile has other stages.
    """
    if len(profile.stages) != len(pipeline.stages):
        raise SettingsError(
            f"the profile {profile.name!r} is of {len(profile.stages)} stages, the pipeline {pipeline.name!r} has "
            f"{len(pipeline.stages)}; measure this one with `pipespec profile`"
        )
    stages = []
    for rank, (stage, measured) in enumerate(zip(pipeline.stages, profile.stages, strict=True)):
        if measured.emulation is None:
            raise SettingsError(
                f"the profile's stages[{rank}] is of kind {measured.kind.value!r}: it does not say what a step takes; "
                "give the file that `pipespec profile --out` wrote"
            )
        update = {
            "kind": StageKind.EMULATED,
            "model": None,
            "tensor_parallel": 1,
            "emulation": measured.emulation,
        }
        stages.append(stage.model_copy(update=update))
    return pipeline.model_copy(update={"stages": tuple(stages)})


def sub_chains(num_stages: int) -> Iterator[tuple[int, ...]]:
    """Ranks of all chains that end with the target, shorter ones first; the target alone is the first."""
    drafts = range(num_stages - 1)
    for length in range(num_stages):
        for ranks in combinations(drafts, length):
            yield (*ranks, num_stages - 1)


def with_stages(pipeline: Pipeline, ranks: Sequence[int]) -> Pipeline:
    """Only these stages, ascending and the target last; agreements are those with the stage that is next now."""
    chosen = [_agreeing(pipeline, rank, later) for rank, later in pairwise(ranks)] + [
        pipeline.stages[ranks[-1]]
    ]
    chosen[0] = chosen[0].model_copy(update={"wait_for": 0})
    return pipeline.model_copy(update={"stages": tuple(chosen)})


def _agreeing(pipeline: Pipeline, rank: int, later: int) -> StageSettings:
    emulation = emulation_of(pipeline.stages[rank])
    update = {"agreement": agreement_between(pipeline, rank, later), "agreement_beyond": {}}
    return pipeline.stages[rank].model_copy(update={"emulation": emulation.model_copy(update=update)})


def agreement_between(pipeline: Pipeline, rank: int, later: int) -> float:
    """Of two stages: as given, or the product of the agreements on the way, as if stages erred independently."""
    given = emulation_of(pipeline.stages[rank]).agreement_beyond.get(later - rank - 1)
    if given is not None:
        return given
    on_the_way = [emulation_of(stage).agreement for stage in pipeline.stages[rank:later]]
    return prod(agreement for agreement in on_the_way if agreement is not None)


def with_lookaheads(pipeline: Pipeline, lookaheads: Sequence[int]) -> Pipeline:
    """Every draft as far ahead as said; nobody waits."""
    stages = [
        stage.model_copy(update={"lookahead": lookahead, "wait_for": 0})
        for stage, lookahead in zip(pipeline.stages, lookaheads, strict=False)
    ]
    target = pipeline.target.model_copy(update={"wait_for": 0})
    return pipeline.model_copy(update={"stages": (*stages, target)})


def synchronous(pipeline: Pipeline, lookaheads: Sequence[int]) -> Pipeline:
    """Every draft so far ahead, and every later stage waits for just as many candidates."""
    free = with_lookaheads(pipeline, lookaheads)
    waiting = [
        stage.model_copy(update={"wait_for": wait_for, "wait_ms": PATIENT_MS})
        for stage, wait_for in zip(free.stages[1:], lookaheads, strict=True)
    ]
    return free.model_copy(update={"stages": (free.stages[0], *waiting)})


def with_replicas(pipeline: Pipeline, replicas: Sequence[int], *, max_sessions: int) -> Pipeline:
    """Every stage with so many replicas, each with room for ``max_sessions``."""
    stages = [
        stage.model_copy(update={"replicas": number, "max_sessions": max_sessions})
        for stage, number in zip(pipeline.stages, replicas, strict=True)
    ]
    return pipeline.model_copy(update={"stages": tuple(stages)})
