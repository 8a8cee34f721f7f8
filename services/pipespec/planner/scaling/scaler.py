"""The autoscaler's policy: from a snapshot of the fleet to the replicas that all stages should have.

Demand is carried on by its trend and given headroom; the capacity model, set right by what streams and stages measure, says
what that needs at least cost; cool-downs and drains say how much of it to do now. Told the time, it keeps no clock.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.chains import Chains
from pipespec.planner.scaling.cooldown import Cooldown
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.giving_up import limited
from pipespec.planner.scaling.load import FleetLoad
from pipespec.planner.scaling.needs import Need, Needs
from pipespec.planner.scaling.plan import with_one_more
from pipespec.planner.scaling.reason import sentence
from pipespec.planner.scaling.trend import Trend

_WORTH_IT = 1.02
"""A stage holds the others back when a replica more would make streams faster by this."""


class Scaler:
    """Decides for one pipeline. Keeps what it saw, as far back as the settings wait.

    Args:
        pipeline: of emulated stages: their curves and agreements are the profile.
        settings: what to aim at.

    Raises:
        SettingsError: a stage is not emulated, or none has ``scaling``.
    """

    def __init__(self, pipeline: Pipeline, settings: AutoscalerSettings) -> None:
        if not any(stage.scaling for stage in pipeline.stages):
            raise SettingsError(
                "no stage has 'scaling' with 'max_replicas': there is nothing to scale; give it to the stages that may be"
            )
        self._pipeline = pipeline
        self._settings = settings
        self._chains = Chains(pipeline)
        self._needs = Needs(pipeline, self._chains)
        self._trend = Trend(settings.start_s)
        self._cooldown = Cooldown(up_s=settings.up_wait_s, down_s=settings.down_wait_s)

    def decide(self, load: FleetLoad) -> Decision:
        """What to ask for now.

        Args:
            load: not older than the one before; a stage per stage of the pipeline.

        Raises:
            SettingsError: the load is of other stages.
        """
        if len(load.stages) != len(self._pipeline.stages):
            raise SettingsError(
                f"a load of {len(load.stages)} stages for a pipeline of {len(self._pipeline.stages)}"
            )
        asked = tuple(stage.asked for stage in load.stages)
        chain = tuple(rank for rank, stage in enumerate(load.stages) if stage.ready)
        self._chains.hear(chain, tuple(stage.agreement for stage in load.stages))
        demand = load.sessions + min(load.refused, max(1, load.sessions))
        ahead = self._trend.forecast(load.now_s, demand)
        forecast = math.ceil(ahead * (1 + self._settings.headroom) - 1e-9)
        need = self._needs.of(forecast, self._settings.goal_ms, asked=asked)
        needed = self._by_rank(need)
        steadied = self._cooldown.steadied(load.now_s, asked=asked, needed=needed)
        replicas, held = limited(load, self._pipeline.stages, needed=needed, steadied=steadied)
        decision = Decision(
            replicas=replicas,
            reason="",
            sessions=demand,
            forecast=forecast,
            needed=needed,
            chain=need.plan.chain,
            bottleneck=self._bottleneck(need, forecast),
            ms_per_token=need.plan.ms_per_token,
            goal_ms=self._settings.goal_ms,
            is_met=need.is_met,
            gpus=self._gpus(replicas),
            held=held,
        )
        return replace(decision, reason=sentence(decision, load, self._pipeline.stages))

    def _by_rank(self, need: Need) -> tuple[int, ...]:
        replicas = dict(zip(need.plan.chain, need.plan.replicas, strict=True))
        return tuple(replicas.get(rank, 0) for rank in range(len(self._pipeline.stages)))

    def _bottleneck(self, need: Need, sessions: int) -> int | None:
        """The stage that would make streams fastest with a replica more, where one would at all."""
        times = with_one_more(self._chains.capacity(need.plan.chain), need.plan, sessions)
        rank = min(times, key=lambda one: times[one])
        return rank if times[rank] * _WORTH_IT < need.plan.ms_per_token else None

    def _gpus(self, replicas: tuple[int, ...]) -> float:
        scalings = [stage.scaling for stage in self._pipeline.stages]
        return sum(number * one.gpus for number, one in zip(replicas, scalings, strict=True) if one)
