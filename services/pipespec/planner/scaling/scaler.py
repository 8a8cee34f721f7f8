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
from pipespec.planner.scaling.cooldown import Cooldown, Replicas
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.demand import Demand, DemandMeter
from pipespec.planner.scaling.giving_up import limited
from pipespec.planner.scaling.goal import Goal
from pipespec.planner.scaling.load import FleetLoad
from pipespec.planner.scaling.needs import Need, Needs
from pipespec.planner.scaling.plan import share_of, with_one_more
from pipespec.planner.scaling.reason import sentence
from pipespec.planner.scaling.trend import Trend

_WORTH_IT = 1.02
"""A stage holds the others back when a replica more would make streams faster by this."""


class Scaler:
    """Decides for one pipeline. Keeps what it saw, as far back as the settings wait. Simulates for a second when it is made.

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
        self._headroom = settings.headroom
        self._goal = Goal(pipeline, settings.goal_ms)
        self._chains = Chains(pipeline)
        self._needs = Needs(pipeline, self._chains)
        self._meter = DemandMeter()
        self._trend = Trend(settings.start_s)
        self._cooldown = Cooldown(
            up_s=settings.up_wait_s, down_s=settings.down_wait_s, surge_s=settings.surge_wait_s
        )

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
        demand = self._meter.read(load, goal_ms=self._goal.mean_ms)
        self._learn(load, demand)
        forecast = self._forecast(load.now_s, demand)
        need = self._needs.of(forecast, self._goal.predicted_ms, asked=asked)
        needed = _in_surge(demand, asked, self._by_rank(need))
        is_new_surge = demand.is_surge and not demand.is_answered
        steadied = self._cooldown.steadied(load.now_s, asked=asked, needed=needed, in_surge=is_new_surge)
        replicas, held = limited(load, self._pipeline.stages, needed=needed, steadied=steadied)
        if demand.is_answered:
            held = ("replicas for this surge are under way", *held)
        decision = Decision(
            replicas=replicas,
            reason="",
            sessions=load.sessions,
            demand=demand.streams,
            forecast=forecast,
            needed=self._by_rank(need),
            chain=need.plan.chain,
            bottleneck=self._bottleneck(need, forecast),
            ms_per_token=need.plan.ms_per_token * self._goal.slower,
            goal_ms=self._goal.mean_ms,
            is_met=need.is_met,
            gpus=self._gpus(replicas),
            held=held,
        )
        return replace(decision, reason=sentence(decision, load, self._pipeline.stages))

    def _learn(self, load: FleetLoad, demand: Demand) -> None:
        """From a fleet in which nothing changes just now."""
        chain = tuple(rank for rank, stage in enumerate(load.stages) if stage.ready)
        self._chains.hear(chain, tuple(stage.agreement for stage in load.stages))
        is_quiet = all(stage.ready == stage.asked and not stage.draining for stage in load.stages)
        target = len(load.stages) - 1
        if (
            demand.is_surge
            or not is_quiet
            or not load.sessions
            or not load.ms_per_token
            or target not in chain
        ):
            return
        shares = tuple(share_of(load.sessions, load.stages[rank].ready) for rank in chain)
        predicted = self._chains.capacity(chain).rate(shares).ms_per_token
        self._goal.compare(measured_ms=load.ms_per_token, predicted_ms=predicted)

    def _forecast(self, now_s: float, demand: Demand) -> int:
        """Streams that there should be room for when a replica that is asked for now is ready."""
        if demand.is_jump:
            self._trend.forget()
        growth = 0.0 if demand.is_surge else self._trend.growth(now_s, demand.now)
        return math.ceil((demand.streams + growth) * (1 + self._headroom) - 1e-9)

    def _by_rank(self, need: Need) -> Replicas:
        replicas = dict(zip(need.plan.chain, need.plan.replicas, strict=True))
        return tuple(replicas.get(rank, 0) for rank in range(len(self._pipeline.stages)))

    def _bottleneck(self, need: Need, sessions: int) -> int | None:
        """The stage that would make streams fastest with a replica more, where one would at all."""
        times = with_one_more(self._chains.capacity(need.plan.chain), need.plan, sessions)
        rank = min(times, key=lambda one: times[one])
        return rank if times[rank] * _WORTH_IT < need.plan.ms_per_token else None

    def _gpus(self, replicas: Replicas) -> float:
        scalings = [stage.scaling for stage in self._pipeline.stages]
        return sum(number * one.gpus for number, one in zip(replicas, scalings, strict=True) if one)


def _in_surge(demand: Demand, asked: Replicas, needed: Replicas) -> Replicas:
    """In a surge nothing is given up; once it is answered, nothing is added."""
    if demand.is_answered:
        return asked
    if demand.is_surge:
        return tuple(max(one, present) for one, present in zip(needed, asked, strict=True))
    return needed
