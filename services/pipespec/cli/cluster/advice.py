"""What the planner says of a release: what it costs, what it brings, and what will disappoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipespec.cli.cluster.footprint import Footprint, what_runs
from pipespec.ops.pipeline import Pipeline, StageKind
from pipespec.planner.arrivals import percentile
from pipespec.planner.search import Comparison, compare
from pipespec.planner.simulation.clients import Request
from pipespec.planner.simulation.run import simulate
from pipespec.planner.variants import profiled, with_replicas

_PROMPT, _TOKENS = 64, 96
_SESSIONS_PER_TARGET = (1, 4, 16)
_MOST_SIMULATED = 64


@dataclass(frozen=True, slots=True)
class Expected:
    """What so many streams at once get, by simulation.

    Attributes:
        sessions: at once.
        ms_per_token: that nine of ten keep.
        tokens_per_s: of all together.
    """

    sessions: int
    ms_per_token: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Advice:
    """All that there is to say.

    Attributes:
        comparison: of the chain with what else could be made of its stages; None where its speed is not known.
        expected: under load, with the least replicas; empty where the speed is not known.
        warnings: sentences, the gravest first.
    """

    comparison: Comparison | None
    expected: tuple[Expected, ...]
    warnings: tuple[str, ...]


def advise(
    footprint: Footprint, profile: Pipeline | None, *, on_progress: Callable[[str], None] = lambda _: None
) -> Advice:
    """Look at a release.

    Args:
        footprint: of it.
        profile: what ``pipespec profile`` measured; emulated stages need none.
        on_progress: told what is simulated.

    Raises:
        SettingsError: the profile is of another chain.
    """
    pipeline = footprint.pipeline
    if profile is not None:
        known: Pipeline | None = profiled(pipeline, profile)
    else:
        known = pipeline if all(stage.kind is StageKind.EMULATED for stage in pipeline.stages) else None
    warnings = list(_of_the_cluster(footprint))
    if known is None:
        return Advice(None, (), tuple(warnings))
    on_progress("comparing chains")
    comparison = compare(known)
    on_progress("simulating load")
    expected = tuple(_expected(known, footprint))
    warnings = [*_of_the_chain(footprint, comparison), *_of_the_goal(pipeline, comparison), *warnings]
    return Advice(comparison, expected, tuple(warnings))


def _expected(known: Pipeline, footprint: Footprint) -> Iterator[Expected]:
    """With the least replicas, and at least one of each stage."""
    replicas = [max(1, stage.least) for stage in footprint.stages]
    for per_target in _SESSIONS_PER_TARGET:
        sessions = per_target * replicas[-1]
        if sessions > _MOST_SIMULATED or per_target > known.target.max_sessions:
            return
        requests = [Request((33 + n % 200,) * _PROMPT, _TOKENS) for n in range(sessions)]
        load = simulate(with_replicas(known, replicas, max_sessions=sessions), requests).load
        ms = percentile([one.ms_per_token for one in load.sessions], 0.9)
        yield Expected(sessions, ms, tokens_per_s=sum(1e3 / one.ms_per_token for one in load.sessions))


def _of_the_chain(footprint: Footprint, comparison: Comparison) -> Iterator[str]:
    best, given = comparison.best, comparison.as_given
    stages = footprint.pipeline.stages
    for rank in (rank for rank in given.ranks if rank not in best.ranks):
        gpus = footprint.stages[rank].least * footprint.stages[rank].num_accelerators
        saves = f" and saves {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""
        change = given.prediction.ms_per_token / best.prediction.ms_per_token
        yield (
            f"stage {rank} ({what_runs(stages[rank])}) cannot pay: the chain without it is "
            f"{_faster(change)}{saves}"
        )
    if best is comparison.alone:
        yield "no draft pays: serve the target alone"
    ratio = given.prediction.ms_per_token / best.prediction.ms_per_token
    if best.ranks == given.ranks and ratio > 1.03:
        lengths = ", ".join(str(length) for length in best.lookaheads)
        yield f"the lookaheads cost {ratio - 1:.0%} more time per token than {lengths} would"


def _faster(ratio: float) -> str:
    return f"{ratio - 1:.0%} faster" if ratio > 1.01 else "hardly slower"


def _of_the_goal(pipeline: Pipeline, comparison: Comparison) -> Iterator[str]:
    if pipeline.autoscaler is None:
        return
    goal_ms, given_ms = pipeline.autoscaler.goal_ms, comparison.as_given.prediction.ms_per_token
    if goal_ms < given_ms:
        yield (
            f"autoscaler.goal_ms is {goal_ms:g}, but a stream that has every replica to itself takes {given_ms:.1f} ms per "
            "token: no number of replicas keeps the goal"
        )


def _of_the_cluster(footprint: Footprint) -> Iterator[str]:
    pipeline, target = footprint.pipeline, footprint.stages[-1]
    if target.least == 1:
        yield (
            f"the target has one replica: while its pod is replaced, streams wait for it, {pipeline.timers.lost_ms / 1000:g} s "
            "at most (timers.lostMs); two replicas lose none"
        )
    room = target.most * pipeline.target.max_sessions
    asked = footprint.gateways * pipeline.gateway.max_sessions
    if asked > room:
        yield (
            f"the gateways take {asked} sessions, the target's replicas hold {room}: the rest is answered with 429; "
            "raise the target's maxSessions or replicas"
        )
    for rank, (stage, settings) in enumerate(zip(footprint.stages[:-1], pipeline.stages, strict=False)):
        if 0 < stage.most * settings.max_sessions < min(room, asked):
            yield (
                f"stage {rank} ({stage.workload}) holds {stage.most * settings.max_sessions} sessions, the target {room}: "
                "sessions beyond that go without this draft"
            )
    if footprint.brokers == 1:
        yield "there is one broker: while it restarts, streams stand still; two cost little"
    if footprint.gateways == 1:
        yield "there is one gateway: while it is replaced, clients have nobody to talk to"
