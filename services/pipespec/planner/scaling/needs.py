"""The replicas that a number of sessions needs: the cheapest over all chains that the settings allow."""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.chains import Chains
from pipespec.planner.scaling.plan import Plan, Range, cheapest, fastest_ms
from pipespec.planner.variants import sub_chains

_NEARLY_FASTEST = 1.05
"""Where the goal cannot be kept: as good as the fastest."""
_FAITHFUL = 0.9
"""Another chain than the present one has to save a tenth; switching costs more than that."""


@dataclass(frozen=True, slots=True)
class Need:
    """What sessions need.

    Attributes:
        plan: the cheapest that keeps the goal, or nearly the fastest where none does.
        is_met: whether it keeps the goal, and holds all sessions.
    """

    plan: Plan
    is_met: bool


class Needs:
    """Works out needs.

    Args:
        pipeline: whose stages' ``scaling`` says what is allowed.
        chains: of the pipeline.
    """

    def __init__(self, pipeline: Pipeline, chains: Chains) -> None:
        self._pipeline = pipeline
        self._chains = chains

    def of(self, sessions: int, goal_ms: float, *, asked: tuple[int, ...]) -> Need:
        """Of so many sessions.

        Args:
            sessions: open at once.
            goal_ms: per token, as ``Capacity`` counts it.
            asked: replicas by rank; stages without ``scaling`` stay at it.
        """
        limits = [self._range(rank, asked) for rank in range(len(asked))]
        held = min(sessions, limits[-1].most * limits[-1].max_sessions)
        present = tuple(rank for rank, number in enumerate(asked) if number)
        chains = [chain for chain in sub_chains(len(asked)) if _is_allowed(chain, limits)]
        plans = self._plans(chains, limits, held, goal_ms)
        if plans:
            return Need(_cheapest_of(plans, present), is_met=held == sessions)
        fastest = min(self._fastest(chain, limits, held) for chain in chains)
        plans = self._plans(chains, limits, held, _NEARLY_FASTEST * fastest)
        return Need(_cheapest_of(plans, present), is_met=False)

    def _range(self, rank: int, asked: tuple[int, ...]) -> Range:
        stage = self._pipeline.stages[rank]
        if stage.scaling is None:
            return Range(asked[rank], asked[rank], 0.0, stage.max_sessions)
        scaling = stage.scaling
        return Range(scaling.min_replicas, scaling.max_replicas, scaling.gpus, stage.max_sessions)

    def _plans(
        self, chains: list[tuple[int, ...]], limits: list[Range], sessions: int, goal_ms: float
    ) -> list[Plan]:
        """The cheapest of every chain that can keep the goal."""
        plans = [
            cheapest(
                self._chains.capacity(chain),
                chain,
                _ranges(chain, limits, sessions),
                sessions,
                keeps=lambda ms: ms <= goal_ms,
            )
            for chain in chains
        ]
        return [plan for plan in plans if plan is not None]

    def _fastest(self, chain: tuple[int, ...], limits: list[Range], sessions: int) -> float:
        return fastest_ms(self._chains.capacity(chain), _ranges(chain, limits, sessions), sessions)


def _cheapest_of(plans: list[Plan], present: tuple[int, ...]) -> Plan:
    def cost(plan: Plan) -> tuple[float, float]:
        return plan.gpus * (_FAITHFUL if plan.chain == present else 1.0), plan.ms_per_token

    return min(plans, key=cost)


def _is_allowed(chain: tuple[int, ...], limits: list[Range]) -> bool:
    return all((one.most if rank in chain else not one.least) for rank, one in enumerate(limits))


def _ranges(chain: tuple[int, ...], limits: list[Range], sessions: int) -> list[Range]:
    """Of a chain's stages; a draft without room for all is no reason against it: the others do without."""
    return [
        Range(
            max(1, limits[rank].least),
            limits[rank].most,
            limits[rank].gpus,
            max(limits[rank].max_sessions, -(-sessions // limits[rank].most)),
        )
        for rank in chain
    ]
