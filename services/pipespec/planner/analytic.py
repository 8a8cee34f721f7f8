"""The paper's closed forms, and synchronous speculation: rates of a pair whose draft agrees with probability α per token.

Assumed throughout: agreement is independent from token to token, step times are constant, messages take no time.
Sources: McDanel et al. 2025 (arXiv 2505.01572) for the pipeline; Leviathan, Kalman, Matias 2023 ("Fast inference from
transformers via speculative decoding") for synchronous speculation. What happens where the time of a step depends on its
tokens is in ``pipeline_rate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError


def expected_tokens(alpha: float, gamma: int) -> float:
    """Tokens that verifying ``gamma`` candidates brings: those accepted and one of the target's own.

    ``(1 - α^{γ+1}) / (1 - α)``, Leviathan et al. equation 1; ``γ + 1`` where every candidate is right.

    Raises:
        SettingsError: α is not a probability, or γ is negative.
    """
    _check(alpha, gamma)
    return gamma + 1.0 if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def verification_probability(alpha: float, gamma: int) -> float:
    """Share of the target's steps that find candidates, in the steady state: ``ρ = α / (1 - α^{γ+1} + α)``.

    After arXiv 2505.01572, section 3: a step that decodes alone (state 0) is followed by a verification when the draft's
    first token was right (α); a verification by another one when all γ candidates and the bonus were (α^{γ+1}).
    """
    _check(alpha, gamma)
    return alpha / (1 - alpha ** (gamma + 1) + alpha) if alpha else 0.0


def tokens_per_target_step(alpha: float, gamma: int) -> float:
    """Of a free-running pair: ``E = (1-ρ) + ρ (1 - α^{γ+1}) / (1 - α)`` (arXiv 2505.01572, theorem 1).

    More than one for every α > 0. That is no speed-up in time yet: it is one only if ``E`` is larger than the mean time of a step
    over the time of a one-token step. With 4-bit 70B, where verifying takes 3.55 one-token steps, E has to be beyond
    ``1 + 2.55 ρ``; see ``pipeline_rate.break_even_agreement``.
    """
    rho = verification_probability(alpha, gamma)
    return (1 - rho) + rho * expected_tokens(alpha, gamma)


def synchronous_speed_up(alpha: float, gamma: int, cost_ratio: float) -> float:
    """Over the target alone: ``(1 - α^{γ+1}) / ((1-α) (γ/c + 1))``, Leviathan et al. theorem 3.8.

    Args:
        alpha: agreement.
        gamma: candidates per round.
        cost_ratio: c, the time of a target step over the time of a draft step; verifying costs as much as decoding.

    Raises:
        SettingsError: the ratio is not positive, or as above.
    """
    if not cost_ratio > 0:
        raise SettingsError(f"the cost ratio must be positive; got {cost_ratio}")
    return expected_tokens(alpha, gamma) / (gamma / cost_ratio + 1)


def synchronous_ms_per_token(alpha: float, gamma: int, *, draft_ms: float, target: LatencyCurve) -> float:
    """The same with a real curve: a round is γ draft tokens and one step of γ+1 tokens."""
    return (gamma * draft_ms + target.ms(gamma + 1)) / expected_tokens(alpha, gamma)


def synchronous_chain_ms_per_token(
    curves: Sequence[LatencyCurve], agreements: Sequence[float], lookaheads: Sequence[int]
) -> float:
    """Of a chain in which every stage waits for the one before it.

    Args:
        curves: of all stages, the target's last.
        agreements: of every stage with the next, one fewer.
        lookaheads: candidates per round of every stage but the first.
    """
    ms = curves[0].ms(1)
    for curve, alpha, gamma in zip(curves[1:], agreements, lookaheads, strict=True):
        ms = synchronous_ms_per_token(alpha, gamma, draft_ms=ms, target=curve)
    return ms


def best_synchronous(
    alpha: float, *, draft_ms: float, target: LatencyCurve, lookaheads: Iterable[int] = range(1, 65)
) -> int:
    """The lookahead with the least time per token."""
    return min(
        lookaheads,
        key=lambda gamma: synchronous_ms_per_token(alpha, gamma, draft_ms=draft_ms, target=target),
    )


def _check(alpha: float, gamma: int) -> None:
    if not 0 <= alpha <= 1:
        raise SettingsError(f"an agreement must be from 0 to 1; got {alpha}")
    if gamma < 0:
        raise SettingsError(f"a lookahead must not be negative; got {gamma}")
