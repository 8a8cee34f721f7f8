"""What a pipeline will bring one stream, by simulation on texts that are the same for every variant."""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.emulation.chain import curve_of, emulation_of
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.analytic import synchronous_chain_ms_per_token
from pipespec.planner.pipeline_rate import chain_rate
from pipespec.planner.simulation.clients import Request
from pipespec.planner.simulation.run import MEASURED, Overheads, SimulationResult, simulate
from pipespec.planner.variants import with_replicas


@dataclass(frozen=True, slots=True)
class Texts:
    """What is simulated.

    Attributes:
        count: sessions, each on replicas of its own.
        tokens: of each.
        overheads: of services and bus.
    """

    count: int
    tokens: int
    overheads: Overheads = MEASURED


@dataclass(frozen=True, slots=True)
class Prediction:
    """For one stream that shares no step with others.

    Attributes:
        ms_per_token: mean over the texts.
        tokens_per_step: of the target.
        busy: share of its time that each stage is in steps, by rank.
        error_ms: standard error of ``ms_per_token``: texts differ in how often drafts agree.
        analytic_ms: per token by the closed forms, which know neither bus nor texts.
    """

    ms_per_token: float
    tokens_per_step: float
    busy: tuple[float, ...]
    error_ms: float
    analytic_ms: float


def predict(pipeline: Pipeline, texts: Texts, *, speculate: bool = True) -> Prediction:
    """Simulate single streams.

    Args:
        pipeline: of emulated stages.
        texts: how many, how long.
        speculate: False leaves the drafts out.
    """
    apart = with_replicas(pipeline, [texts.count] * len(pipeline.stages), max_sessions=1)
    tokens = min(texts.tokens, *(emulation_of(stage).context_len - 1 for stage in pipeline.stages))
    requests = [Request((33 + n,), tokens, speculate=speculate) for n in range(texts.count)]
    result = simulate(apart, requests, overheads=texts.overheads)
    return _summary(result, analytic_ms(pipeline) if speculate else curve_of(pipeline.target).ms(1))


def analytic_ms(pipeline: Pipeline) -> float:
    """Milliseconds per token of a single stream by the closed forms, synchronous where every stage waits for all that the one before it may say; shorter waits are not in them."""
    drafts = pipeline.stages[:-1]
    curves = [curve_of(stage) for stage in pipeline.stages]
    agreements = [emulation_of(stage).agreement or 0.0 for stage in drafts]
    waits = [stage.wait_for for stage in pipeline.stages[1:]]
    lookaheads = [stage.lookahead for stage in drafts]
    if waits and waits == lookaheads:
        return synchronous_chain_ms_per_token(curves, agreements, waits)
    return chain_rate(curves, agreements, lookaheads).ms_per_token


def _summary(result: SimulationResult, by_closed_form_ms: float) -> Prediction:
    times = [session.ms_per_token for session in result.load.sessions]
    mean = sum(times) / len(times)
    spread = sum((one - mean) ** 2 for one in times) / max(1, len(times) - 1)
    return Prediction(
        ms_per_token=mean,
        tokens_per_step=result.load.num_tokens / result.stages[-1].steps,
        busy=tuple(stage.busy for stage in result.stages),
        error_ms=(spread / len(times)) ** 0.5,
        analytic_ms=by_closed_form_ms,
    )
