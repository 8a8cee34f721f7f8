"""The closed forms against a Monte Carlo of one session that shares no code with them, the protocol core or the simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.emulation.curve import LatencyCurve
from pipespec.planner.analytic import tokens_per_target_step
from pipespec.planner.pipeline_rate import _GRID, Draft, _stationary, break_even_agreement, pipeline_rate

FLAT = LatencyCurve(((1, 100.0),))
NF4 = LatencyCurve(((1, 120.46), (2, 427.81), (9, 428.2), (35, 439.0)))
TOKENS = 60_000


@dataclass
class FreeDraft:
    """Speaks every ``step_ms``, up to ``lookahead`` tokens beyond what the target has said.

    Attributes:
        is_right: of every token said beyond the target, oldest first: whether the target would say the same.
        ends_ms: when the step in flight ends; None while it waits at its lookahead.
        is_stale: the step in flight is about a prefix that is gone, or a token that the target has said by now.
    """

    step_ms: float
    agreement: float
    lookahead: int
    luck: Random
    is_right: list[bool] = field(default_factory=list)
    ends_ms: float | None = None
    is_stale: bool = False

    def run_until(self, now_ms: float) -> None:
        while self.ends_ms is not None and self.ends_ms <= now_ms + 1e-9:
            if not self.is_stale:
                self.is_right.append(self.luck.random() < self.agreement)
            self.is_stale = False
            has_room = len(self.is_right) < self.lookahead
            self.ends_ms = self.ends_ms + self.step_ms if has_room else None

    def hear(self, now_ms: float, num_said: int) -> None:
        """The target has said so many tokens more, the last of them its own."""
        stands = len(self.is_right) >= num_said and all(self.is_right[:num_said])
        self.is_right = self.is_right[num_said:] if stands else []
        self.is_stale = self.ends_ms is not None and not stands
        if self.ends_ms is None:
            self.ends_ms = now_ms + self.step_ms


def play(draft: FreeDraft, curve: LatencyCurve, tokens: int = TOKENS) -> tuple[float, float]:
    """Milliseconds per token and tokens per target step of a session that long."""
    now_ms, said, steps = 0.0, 0, 0
    draft.ends_ms = draft.step_ms
    while said < tokens:
        candidates = list(draft.is_right)
        now_ms += curve.ms(len(candidates) + 1)
        draft.run_until(now_ms)
        num_said = (candidates.index(False) if False in candidates else len(candidates)) + 1
        draft.hear(now_ms, num_said)
        said += num_said
        steps += 1
    return now_ms / said, said / steps


def test_the_monte_carlo_itself_takes_as_long_as_by_hand() -> None:
    """A perfect draft sets the pace; one that is never right, or has only the target's own next token to say, brings nothing."""
    assert play(FreeDraft(40.0, 1.0, 64, Random(0)), FLAT)[0] == pytest.approx(40.0, rel=1e-3)
    assert play(FreeDraft(40.0, 0.0, 64, Random(0)), FLAT) == pytest.approx((100.0, 1.0))
    assert play(FreeDraft(10.0, 1.0, 1, Random(0)), FLAT) == pytest.approx((100.0, 1.0))


@pytest.mark.parametrize("curve", [FLAT, NF4], ids=["flat", "nf4"])
@pytest.mark.parametrize("draft_ms", [3.0, 11.7, 22.77, 33.0])
@pytest.mark.parametrize(("agreement", "lookahead"), [(0.3, 8), (0.6, 2), (0.9, 4), (0.9, 40)])
def test_a_pair_takes_as_long_as_in_the_monte_carlo(
    curve: LatencyCurve, draft_ms: float, agreement: float, lookahead: int
) -> None:
    ms, tokens = play(FreeDraft(draft_ms, agreement, lookahead, Random(1)), curve)
    rate = pipeline_rate(Draft(draft_ms, draft_ms, agreement, lookahead), curve)
    assert rate.ms_per_token == pytest.approx(ms, rel=0.02)
    assert rate.tokens_per_step == pytest.approx(tokens, rel=0.02)


@pytest.mark.parametrize(("agreement", "lookahead"), [(1.0, 40), (0.9, 4), (0.6, 2)])
def test_a_draft_nearly_as_slow_as_its_target_is_no_exception(agreement: float, lookahead: int) -> None:
    """Fractions of a token decide here, and the grid that states are told apart on has a few percent."""
    ms, _ = play(FreeDraft(95.2, agreement, lookahead, Random(1)), FLAT)
    rate = pipeline_rate(Draft(95.2, 95.2, agreement, lookahead), FLAT)
    assert rate.ms_per_token == pytest.approx(ms, rel=0.03)


@pytest.mark.parametrize(("draft_ms", "lookahead"), [(11.7, 40), (22.77, 40)])
def test_the_pair_pays_in_the_monte_carlo_above_its_break_even_only(draft_ms: float, lookahead: int) -> None:
    agreement = break_even_agreement(draft_ms, NF4, lookahead)
    assert agreement is not None
    above, _ = play(FreeDraft(draft_ms, agreement + 0.02, lookahead, Random(2)), NF4)
    below, _ = play(FreeDraft(draft_ms, agreement - 0.02, lookahead, Random(2)), NF4)
    assert above < NF4.ms(1) < below


@given(st.floats(0.0, 0.95))
def test_the_theorem_of_the_paper_tends_to_the_limit_of_a_free_running_pair(alpha: float) -> None:
    """With γ without end, ``E = (1-ρ) + ρ/(1-α)`` at ``ρ = α/(1+α)`` is ``1/(1-α²)``."""
    assert tokens_per_target_step(alpha, 4096) == pytest.approx(1 / (1 - alpha**2))


@given(st.floats(0.0, 0.9), st.floats(0.01, 0.1), st.sampled_from([2, 4, 16]))
def test_with_steps_that_all_cost_the_same_better_drafts_are_never_slower(
    agreement: float, more: float, lookahead: int
) -> None:
    worse = pipeline_rate(Draft(7.0, 7.0, agreement, lookahead), FLAT)
    better = pipeline_rate(Draft(7.0, 7.0, agreement + more, lookahead), FLAT)
    assert better.ms_per_token <= worse.ms_per_token * (1 + 1e-6)


@pytest.mark.parametrize("draft_ms", [105.0, 250.0])
def test_a_draft_slower_than_its_target_never_falls_behind_by_more_than_its_step(draft_ms: float) -> None:
    """It takes over what the target says; else the states would have no end, and the model take half a minute."""
    draft = Draft(draft_ms, draft_ms, 0.8, 8)
    assert min(_stationary(draft, FLAT, 1e-9)) >= -_GRID
    assert pipeline_rate(draft, FLAT).ms_per_token == pytest.approx(100.0)
