"""The paper's chains, emulated with the recorded latencies, through our real broker, stages and gateway.

Several sessions run at once, each on replicas of its own, so that they do not share steps. Counted is the time from the first
token to the last, as decoding time per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import mean, stdev

from pipespec.bench.load import run_load
from pipespec.bench.recorded import RecordedChain
from pipespec.emulation.chain import language_of
from pipespec.ops.errors import InvariantBroken
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.arrivals import LoadResult

Start = Callable[[Pipeline], AbstractContextManager[Pipeline]]
"""Runs a pipeline and yields it with its ports."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One chain.

    Attributes:
        chain: what was emulated.
        alone_ms: per token, the target without drafts.
        pipeline_ms: per token, of every session.
    """

    chain: RecordedChain
    alone_ms: tuple[float, ...]
    pipeline_ms: tuple[float, ...]

    @property
    def speed_up(self) -> float:
        """Of the mean over the sessions."""
        return mean(self.alone_ms) / mean(self.pipeline_ms)

    @property
    def error_ms(self) -> float:
        """Standard error of the pipeline's mean: texts differ in how often drafts agree."""
        return stdev(self.pipeline_ms) / len(self.pipeline_ms) ** 0.5 if len(self.pipeline_ms) > 1 else 0.0


def run_paper(
    chains: Sequence[RecordedChain], start: Start, *, sessions: int, tokens: int
) -> Iterator[PaperRow]:
    """Measure chain by chain.

    Args:
        chains: to emulate.
        start: runs their pipelines.
        sessions: texts, side by side.
        tokens: of each with the chain; a quarter of them with the target alone, whose time per token is steady.

    Raises:
        InvariantBroken: a text is not the target's own.
    """
    for chain in chains:
        pipeline = parse_pipeline(chain.document(replicas=sessions), source=chain.name)
        with start(pipeline) as running:
            url = f"grpc://127.0.0.1:{running.gateway.grpc_port}"
            prompts = [[33 + index] for index in range(sessions)]
            alone = run_load(url, prompts, max_tokens=max(2, tokens // 4), speculate=False)
            together = run_load(url, prompts, max_tokens=tokens)
        for result in (alone, together):
            check_texts(pipeline, prompts, result)
        yield PaperRow(chain, _ms_per_token(alone), _ms_per_token(together))


def check_texts(pipeline: Pipeline, prompts: Sequence[Sequence[int]], result: LoadResult) -> None:
    """Every session's tokens are what the target alone would say: the oracle needs no pipeline.

    Raises:
        InvariantBroken: they are not.
    """
    language = language_of(pipeline.stages)
    for prompt, session in zip(prompts, result.sessions, strict=True):
        if list(session.tokens) != language.target_text(prompt, len(session.tokens)):
            raise InvariantBroken("a session's tokens are not the target's own; please report this")


def _ms_per_token(result: LoadResult) -> tuple[float, ...]:
    return tuple(1e3 * (one.at_s[-1] - one.at_s[0]) / (len(one.at_s) - 1) for one in result.sessions)
