"""The paper's chains, emulated with the recorded latencies, through our real broker, stages and gateway.

Several sessions run at once, each on replicas of its own, so that they do not share steps. Counted is the time from the first
token to the last, as decoding time per token. The same texts are simulated, and the analytic model is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from pipespec.bench.hops import measure_hops
from pipespec.bench.load import run_load
from pipespec.bench.metrics import wait_for_replicas
from pipespec.bench.recorded import Mode, RecordedChain
from pipespec.emulation.chain import curve_of, language_of
from pipespec.ops.errors import InvariantBroken
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.arrivals import Arrivals, LoadResult, percentile
from pipespec.planner.prediction import analytic_ms
from pipespec.planner.simulation.clients import Request
from pipespec.planner.simulation.run import simulate
from pipespec.planner.variants import synchronous

Start = Callable[[Pipeline], AbstractContextManager[Pipeline]]
"""Runs a pipeline and yields it with its ports."""


@dataclass(frozen=True, slots=True)
class PaperCell:
    """One chain in one mode; times are milliseconds per token.

    Attributes:
        ms: of every session, through the real services.
        simulated_ms: mean of the same texts in the simulator.
        analytic_ms: by the closed forms.
        course: when the tokens of the first text arrived.
    """

    ms: tuple[float, ...]
    simulated_ms: float
    analytic_ms: float
    course: Arrivals

    @property
    def mean_ms(self) -> float:
        """Over the sessions."""
        return mean(self.ms)

    @property
    def error_ms(self) -> float:
        """Standard error of the mean: texts differ in how often drafts agree."""
        return stdev(self.ms) / len(self.ms) ** 0.5 if len(self.ms) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One chain.

    Attributes:
        chain: what was emulated.
        cells: by mode.
        target_ms: of a one-token step of the target, as set.
        hop_ms: from one process to another through the broker: median and 99th percentile.
    """

    chain: RecordedChain
    cells: dict[Mode, PaperCell]
    target_ms: float
    hop_ms: tuple[float, float]

    def speed_up(self, mode: Mode) -> float:
        """Over the target alone, of the means."""
        return self.cells[Mode.ALONE].mean_ms / self.cells[mode].mean_ms

    @property
    def added_ms(self) -> float:
        """What the services add to a step of the target that decodes alone, one token after another."""
        return self.cells[Mode.ALONE].mean_ms - self.target_ms

    def document(self) -> dict[str, Any]:
        """For JSON."""
        cells = {
            mode.value: asdict(cell) | {"mean_ms": cell.mean_ms, "speed_up": self.speed_up(mode)}
            for mode, cell in self.cells.items()
        }
        return asdict(self) | {"cells": cells, "added_ms": self.added_ms}


def run_paper(
    chains: Sequence[RecordedChain], start: Start, *, sessions: int, tokens: int
) -> Iterator[PaperRow]:
    """Measure chain by chain.

    Args:
        chains: to emulate.
        start: runs their pipelines.
        sessions: texts, side by side.
        tokens: of each with drafts; a quarter of them with the target alone, whose time per token is steady.

    Raises:
        InvariantBroken: a text is not the target's own.
    """
    prompts = [(33 + index,) for index in range(sessions)]
    few = max(2, tokens // 4)
    for chain in chains:
        pipeline = parse_pipeline(chain.document(replicas=sessions), source=chain.name)
        with start(pipeline) as running:
            wait_for_replicas(running)
            hops = [1e3 * seconds for seconds in measure_hops(running.brokers)]
            alone = _cell(Mode.ALONE, pipeline, _serve(running, prompts, few, speculate=False), prompts)
            together = _cell(Mode.PIPELINE, pipeline, _serve(running, prompts, tokens), prompts)
        waiting = synchronous(pipeline, chain.synchronous)
        with start(waiting) as running:
            wait_for_replicas(running)
            turns = _cell(Mode.SYNCHRONOUS, waiting, _serve(running, prompts, tokens), prompts)
        yield PaperRow(
            chain,
            {Mode.ALONE: alone, Mode.SYNCHRONOUS: turns, Mode.PIPELINE: together},
            target_ms=curve_of(pipeline.target).ms(1),
            hop_ms=(percentile(hops, 0.5), percentile(hops, 0.99)),
        )


def _serve(
    running: Pipeline, prompts: Sequence[Sequence[int]], tokens: int, *, speculate: bool = True
) -> LoadResult:
    url = f"grpc://127.0.0.1:{running.gateway.grpc_port}"
    result = run_load(url, prompts, max_tokens=tokens, speculate=speculate)
    check_texts(running, prompts, result)
    return result


def _cell(
    mode: Mode, pipeline: Pipeline, served: LoadResult, prompts: Sequence[tuple[int, ...]]
) -> PaperCell:
    tokens = len(served.sessions[0].tokens)
    requests = [Request(prompt, tokens, speculate=mode is not Mode.ALONE) for prompt in prompts]
    return PaperCell(
        ms=tuple(session.ms_per_token for session in served.sessions),
        simulated_ms=simulate(pipeline, requests).ms_per_token,
        analytic_ms=curve_of(pipeline.target).ms(1) if mode is Mode.ALONE else analytic_ms(pipeline),
        course=served.sessions[0],
    )


def check_texts(pipeline: Pipeline, prompts: Sequence[Sequence[int]], result: LoadResult) -> None:
    """Every session's tokens are what the target alone would say: the oracle needs no pipeline.

    Raises:
        InvariantBroken: they are not.
    """
    language = language_of(pipeline.stages)
    for prompt, session in zip(prompts, result.sessions, strict=True):
        if list(session.tokens) != language.target_text(prompt, len(session.tokens)):
            raise InvariantBroken("a session's tokens are not the target's own; please report this")
