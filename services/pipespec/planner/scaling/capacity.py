"""Milliseconds per token of a stream whose replicas serve others too, by closed forms.

A stream sees every stage through a *loaded curve*: its own tokens come on top of what the others feed in the same step. How
much that is depends on the rate, and the rate on the curve, so both are iterated until they agree. The rest is
``pipeline_rate``, stage by stage. A step that is full serves some of its sessions, the others wait for the next one.
"""

from __future__ import annotations

from pipespec.emulation.chain import curve_of, emulation_of
from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.pipeline import Pipeline, StageSettings
from pipespec.planner.pipeline_rate import Draft, Rate, alone, pipeline_rate

_ROUNDS = 12
_CONVERGED_TOKENS = 0.05
"""As a fraction of what a stream feeds."""
_CONVERGED_SHARES = 1e-4
"""Of ``pipeline_rate``; finer is ten times slower and no better than the model."""

Shares = tuple[int, ...]
"""Sessions per replica of every stage of a chain, itself included; at least 1 each."""


class Capacity:
    """One chain of stages, all of which take part. Remembers what it has worked out.

    Args:
        chain: of emulated stages.
    """

    def __init__(self, chain: Pipeline) -> None:
        self._stages = chain.stages
        self._known: dict[Shares, Rate] = {}

    def rate(self, shares: Shares) -> Rate:
        """Of the first stages, as many as there are shares."""
        if shares not in self._known:
            self._known[shares] = self._worked_out(shares)
        return self._known[shares]

    def _worked_out(self, shares: Shares) -> Rate:
        place = len(shares) - 1
        stage, share = self._stages[place], shares[-1]
        if place == 0:
            return alone(_loaded(stage, 1, share, others=share - 1))
        earlier, before = self._stages[place - 1], self.rate(shares[:-1])
        agreement = emulation_of(earlier).agreement or 0.0
        return _settled(
            Draft(before.ms_per_token, before.step_ms, agreement, earlier.lookahead), stage, share
        )


def _settled(draft: Draft, stage: StageSettings, share: int) -> Rate:
    """The rate at which the others feed as much as this stream does."""
    most, fed = draft.lookahead + 1, 1.0
    rate = pipeline_rate(draft, _loaded(stage, most, share, others=0), converged=_CONVERGED_SHARES)
    for _ in range(_ROUNDS if share > 1 else 0):
        fed = (fed + rate.fed_per_step) / 2
        loaded = _loaded(stage, most, share, others=round((share - 1) * fed))
        rate = pipeline_rate(draft, loaded, converged=_CONVERGED_SHARES)
        if abs(rate.fed_per_step - fed) < _CONVERGED_TOKENS * fed:
            break
    return rate


def _loaded(stage: StageSettings, most: int, share: int, *, others: int) -> LatencyCurve:
    """What a session's tokens, up to ``most``, cost where the others feed ``others`` in the same step."""
    curve = curve_of(stage)
    together = min(share, stage.max_batch)

    def ms(tokens: int) -> float:
        wanted = tokens + others
        turns = max(1.0, share / together, wanted / stage.step_tokens)
        return turns * curve.ms(min(wanted, stage.step_tokens), together)

    return LatencyCurve(tuple((tokens, ms(tokens)) for tokens in range(1, most + 1)))
