"""Which stages pay, and how far ahead each should be: every sub-chain at its best lookaheads, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipespec.emulation.chain import name_of
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.prediction import Prediction, Texts, predict
from pipespec.planner.variants import sub_chains, synchronous, with_lookaheads, with_stages

LOOKAHEADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FINAL_TEXTS = Texts(count=8, tokens=512)
SEARCH_TEXTS = Texts(count=4, tokens=256)
"""Enough to rank; what is chosen is predicted again with more."""
_NEARLY_BEST = 1.005
"""Of two lookaheads so close, the shorter one: it drafts less in vain."""
_SHORTER_IS_BETTER = 1.03
"""A chain that is so little slower than the best one and has fewer stages is preferred: stages cost GPUs."""
_ROUNDS = 3

Lookaheads = tuple[int, ...]
Predict = Callable[[Lookaheads], float]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve the target.

    Attributes:
        ranks: of its stages in the pipeline that was asked about.
        lookaheads: of its drafts.
        prediction: for one stream.
        speed_up: over the target alone.
        pipeline: that would run.
        by_last_lookahead: (lookahead of the last draft, milliseconds per token), the others as chosen; from few texts.
    """

    ranks: tuple[int, ...]
    lookaheads: Lookaheads
    prediction: Prediction
    speed_up: float
    pipeline: Pipeline
    by_last_lookahead: tuple[tuple[int, float], ...] = ()

    @property
    def name(self) -> str:
        """Its stages, small to large."""
        named = zip(self.pipeline.stages, self.ranks, strict=True)
        return " > ".join(name_of(stage, rank) for stage, rank in named)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All ways to serve the target.

    Attributes:
        alone: no drafts.
        as_given: the pipeline as it stands in its file.
        free: every sub-chain with drafts, free-running, at its best lookaheads.
        synchronous: every pair at its best lookahead, synchronous; none where there is no draft.
    """

    alone: Option
    as_given: Option
    free: tuple[Option, ...]
    synchronous: tuple[Option, ...]

    @property
    def best(self) -> Option:
        """The fastest, or one with fewer stages that is hardly slower; the target alone where no draft pays."""
        options = (self.alone, *self.free, self.as_given, *self.synchronous)
        fastest = min(option.prediction.ms_per_token for option in options)
        near = [o for o in options if o.prediction.ms_per_token <= _SHORTER_IS_BETTER * fastest]
        return min(near, key=lambda option: (len(option.ranks), option.prediction.ms_per_token))

    @property
    def best_synchronous(self) -> Option | None:
        """The fastest of them."""
        return min(self.synchronous, key=lambda option: option.prediction.ms_per_token, default=None)


def num_searches(num_stages: int) -> int:
    """How often ``compare`` tells of progress."""
    return sum(1 for _ in sub_chains(num_stages)) + 1


def compare(
    pipeline: Pipeline,
    *,
    texts: Texts = FINAL_TEXTS,
    search_texts: Texts = SEARCH_TEXTS,
    on_progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Simulate all ways to serve the pipeline's target.

    Args:
        pipeline: of emulated stages.
        texts: for the final predictions.
        search_texts: for the search.
        on_progress: called ``num_searches`` times.

    Raises:
        SettingsError: a stage is not emulated.
    """
    chains = list(sub_chains(len(pipeline.stages)))
    only_target = with_stages(pipeline, chains[0])
    alone_prediction = predict(only_target, texts)
    alone = Option(chains[0], (), alone_prediction, 1.0, only_target)
    on_progress()

    def option(ranks: tuple[int, ...], chosen: Pipeline, found: Found) -> Option:
        prediction = predict(chosen, texts)
        speed_up = alone_prediction.ms_per_token / prediction.ms_per_token
        return Option(ranks, found.lookaheads, prediction, speed_up, chosen, found.by_last)

    given_lookaheads = tuple(stage.lookahead for stage in pipeline.stages[:-1])
    as_given = option(tuple(range(len(pipeline.stages))), pipeline, Found(given_lookaheads, ()))
    on_progress()
    free: list[Option] = []
    pairs: list[Option] = []
    for ranks in chains[1:]:
        chain = with_stages(pipeline, ranks)
        found = find_lookaheads(chain, with_lookaheads, search_texts)
        free.append(option(ranks, with_lookaheads(chain, found.lookaheads), found))
        if len(ranks) == 2:
            found = find_lookaheads(chain, synchronous, search_texts)
            pairs.append(option(ranks, synchronous(chain, found.lookaheads), found))
        on_progress()
    return Comparison(alone, as_given, tuple(free), tuple(pairs))


@dataclass(frozen=True, slots=True)
class Found:
    """The best lookaheads of a chain, and the times that the last one was chosen by."""

    lookaheads: Lookaheads
    by_last: tuple[tuple[int, float], ...]


def find_lookaheads(
    chain: Pipeline, variant: Callable[[Pipeline, Lookaheads], Pipeline], texts: Texts = SEARCH_TEXTS
) -> Found:
    """Coordinate descent over ``LOOKAHEADS``, from the stage before the target to the first.

    Args:
        chain: of at least two stages.
        variant: makes the pipeline of a chain and its lookaheads.
        texts: that they are compared on.
    """
    seen: dict[Lookaheads, float] = {}

    def ms(lookaheads: Lookaheads) -> float:
        if lookaheads not in seen:
            seen[lookaheads] = predict(variant(chain, lookaheads), texts).ms_per_token
        return seen[lookaheads]

    best: Lookaheads = (8,) * (len(chain.stages) - 1)
    for _ in range(_ROUNDS):
        before = best
        for place in reversed(range(len(best))):
            best = _shortest_of_the_best(list(_varied(best, place)), ms)
        if best == before:
            break
    by_last = tuple((one[-1], ms(one)) for one in _varied(best, len(best) - 1))
    return Found(best, by_last)


def _varied(lookaheads: Lookaheads, place: int) -> Iterator[Lookaheads]:
    for length in LOOKAHEADS:
        yield (*lookaheads[:place], length, *lookaheads[place + 1 :])


def _shortest_of_the_best(candidates: list[Lookaheads], ms: Predict) -> Lookaheads:
    least = min(ms(candidate) for candidate in candidates)
    return next(candidate for candidate in candidates if ms(candidate) <= _NEARLY_BEST * least)
