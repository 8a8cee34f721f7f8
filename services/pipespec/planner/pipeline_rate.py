"""Time per token of a free-running chain whose steps take the time that their tokens need.

The extension of the paper's two-state chain (decoding alone, verifying γ) to unequal costs. The state at the start of a step is
how far the draft is ahead, as a real number: 3.25 are three candidates and a quarter of the next one. A step with k of them takes
``t(k+1)``; the draft goes on meanwhile, up to its lookahead. With probability ``α^{k+1}`` all of them and the draft's word at
the bonus position were right, and the rest of what it said is there for the next step. Otherwise everything is thrown away, the
draft ends the step that it is in, and starts again from nothing.

Of more than two stages, each is the draft of the next: it says tokens at the rate of the chain that ends with it. That rate is
taken as constant, although after a rollback the earlier stages start afresh too; the model is a few percent too fast there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError
from pipespec.planner.analytic import expected_tokens

_GRID = 16
"""States are told apart to a sixteenth of a token."""
_ROUNDING = 1e-6
_ROUNDS = 2000
_CONVERGED = 1e-9
_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Draft:
    """What comes before a stage.

    Attributes:
        ms_per_token: while it runs ahead.
        step_ms: of its steps: what a rollback may have to wait for.
        agreement: of its token with the stage's, at the same prefix.
        lookahead: tokens that it may be ahead.
    """

    ms_per_token: float
    step_ms: float
    agreement: float
    lookahead: int

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            SettingsError: a time is not positive, the agreement no probability, or the lookahead below 1.
        """
        if not (self.ms_per_token > 0 and self.step_ms > 0):
            raise SettingsError(
                f"a draft's times must be positive; got {self.ms_per_token}, {self.step_ms} ms"
            )
        if not 0 <= self.agreement <= 1:
            raise SettingsError(f"an agreement must be from 0 to 1; got {self.agreement}")
        if self.lookahead < 1:
            raise SettingsError(f"a lookahead must be at least 1; got {self.lookahead}")


@dataclass(frozen=True, slots=True)
class Rate:
    """Of a chain in its steady state.

    Attributes:
        ms_per_token: mean.
        step_ms: mean time of the last stage's steps.
        tokens_per_step: of the last stage.
        fed_per_step: tokens that go through the last stage in a step: the candidates, and one.
    """

    ms_per_token: float
    step_ms: float
    tokens_per_step: float
    fed_per_step: float = 1.0


def alone(curve: LatencyCurve) -> Rate:
    """A stage without a draft."""
    return Rate(curve.ms(1), curve.ms(1), 1.0)


def pipeline_rate(draft: Draft, curve: LatencyCurve, *, converged: float = _CONVERGED) -> Rate:
    """A stage with what comes before it, free-running.

    Args:
        draft: of the stage.
        curve: of the stage's steps.
        converged: change of the shares of states in one round that is none.
    """
    share = _stationary(draft, curve, converged)
    step_ms = tokens = fed = 0.0
    for state, probability in share.items():
        candidates = _candidates(state)
        step_ms += probability * curve.ms(candidates + 1)
        tokens += probability * expected_tokens(draft.agreement, candidates)
        fed += probability * (candidates + 1)
    return Rate(step_ms / tokens, step_ms, tokens, fed)


def chain_rate(
    curves: Sequence[LatencyCurve], agreements: Sequence[float], lookaheads: Sequence[int]
) -> Rate:
    """A chain of any length.

    Args:
        curves: of all stages, the target's last.
        agreements: of every stage with the next, one fewer.
        lookaheads: of every stage but the target.

    Raises:
        SettingsError: the numbers do not match.
    """
    if not curves or not len(agreements) == len(lookaheads) == len(curves) - 1:
        raise SettingsError(
            f"{len(curves)} stages need {max(0, len(curves) - 1)} agreements and lookaheads; got {len(agreements)} and "
            f"{len(lookaheads)}"
        )
    rate = alone(curves[0])
    for curve, agreement, lookahead in zip(curves[1:], agreements, lookaheads, strict=True):
        draft = Draft(rate.ms_per_token, rate.step_ms, agreement, lookahead)
        rate = pipeline_rate(draft, curve)
    return rate


def break_even_agreement(draft_ms: float, curve: LatencyCurve, lookahead: int) -> float | None:
    """The agreement from which on a free-running pair is faster than the target alone.

    Below it the target spends more time on verifying than acceptance saves: theorem 1 of the paper counts steps, not time.

    Args:
        draft_ms: per token of the draft.
        curve: of the target.
        lookahead: of the draft.

    Returns:
        From 0 to 1; None where not even a perfect draft pays.
    """

    def pays(agreement: float) -> bool:
        return pipeline_rate(Draft(draft_ms, draft_ms, agreement, lookahead), curve).ms_per_token < curve.ms(
            1
        ) * (1 - 1e-9)

    if not pays(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high


def _candidates(state: int) -> int:
    return max(0, state) // _GRID


def _stationary(draft: Draft, curve: LatencyCurve, converged: float) -> dict[int, float]:
    """How often a step starts in each state; states are sixteenths of a token ahead, negative while a step has to end first.

    Power iteration, every other step mixed with the last, so that chains with a period settle too.
    """
    share: dict[int, float] = {0: 1.0}
    followers: dict[int, tuple[tuple[int, float], ...]] = {}
    for _ in range(_ROUNDS):
        following: defaultdict[int, float] = defaultdict(float)
        for state, probability in share.items():
            following[state] += probability / 2
            if state not in followers:
                followers[state] = _followers(state, draft, curve)
            for follower, chance in followers[state]:
                following[follower] += probability * chance / 2
        change = sum(abs(following[state] - share.get(state, 0.0)) for state in following)
        share = dict(following)
        if change < converged:
            break
    return share


def _followers(state: int, draft: Draft, curve: LatencyCurve) -> tuple[tuple[int, float], ...]:
    """States at the start of the next step, with their probabilities."""
    candidates = _candidates(state)
    ahead = min(float(draft.lookahead), state / _GRID + curve.ms(candidates + 1) / draft.ms_per_token)
    has_bonus = ahead >= candidates + 1
    right = draft.agreement ** (candidates + 1 if has_bonus else candidates)
    onwards = (
        ahead - (candidates + 1) if ahead >= 0 else ahead
    )  # who is behind takes over what the stage says
    return (*_on_grid(onwards, right), *_on_grid(_restart(ahead, draft), 1 - right))


def _on_grid(ahead: float, chance: float) -> tuple[tuple[int, float], ...]:
    """Shared between the two states beside it, so that the mean stays: rounding down would slow the draft at every step."""
    exact = ahead * _GRID + _ROUNDING
    below = math.floor(exact)
    above = max(0.0, exact - below - _ROUNDING)
    shared = ((below, chance * (1 - above)), (below + 1, chance * above))
    return tuple(one for one in shared if one[1] > 0)


def _restart(ahead: float, draft: Draft) -> float:
    """How far behind nothing a draft starts that has to end its step first: not at all where it waited at its lookahead."""
    if ahead >= draft.lookahead:
        return 0.0
    if ahead < 0:
        return ahead
    burst = draft.step_ms / draft.ms_per_token
    begun = math.fmod(max(0.0, ahead), burst)
    return begun - burst
