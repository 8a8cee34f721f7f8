"""One policy under one load: sessions come, share replicas, end; the policy is asked every interval. Virtual time, in steps.

A session goes on at the speed that the table gives for the number of sessions on its replicas, times how hard its text is.
One that finds no room at a target asks again, as clients do. A replica that drains hands its sessions over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log1p, sqrt
from random import Random
from typing import Protocol

from benchmarks.autoscaling.fleet import Replica, StageFleet, fleet_of
from benchmarks.autoscaling.loads import Arrival, Load
from benchmarks.autoscaling.speeds import Shares, Speeds

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.load import FleetLoad, StageUse
from pipespec.planner.scaling.steady import PIECE, Speed

RETRY_S = 1.0
HANDOVER_S = 1.0
"""Until a session that is moved goes on: its new replica reads what there is of it."""


class Policy(Protocol):
    """Chooses replicas."""

    def decide(self, load: FleetLoad) -> tuple[int, ...]:
        """To ask for, by rank."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is the same for all policies.

    Attributes:
        pipeline: with the stages' ``scaling``.
        speeds: of its streams.
        goal_ms: per token.
        start_s: from asking for a replica until it serves.
        drain_s: from giving it up until its GPUs are free.
        interval_s: between two decisions.
        step_s: of virtual time.
    """

    pipeline: Pipeline
    speeds: Speeds
    goal_ms: float
    start_s: float = 120.0
    drain_s: float = 15.0
    interval_s: float = 15.0
    step_s: float = 1.0


@dataclass(slots=True)
class Outcome:
    """What a policy brought.

    Attributes:
        sessions: that ended.
        kept: of these, how many kept the goal.
        kept_waiting: the same where the time until there was room counts too.
        refused: sessions that were refused at least once.
        gpu_hours: occupied.
        scalings: of a stage, up or down.
        course: (hour, sessions open, GPUs occupied), every interval.
    """

    sessions: int = 0
    kept: int = 0
    kept_waiting: int = 0
    refused: int = 0
    gpu_hours: float = 0.0
    scalings: int = 0
    course: list[tuple[float, int, float]] = field(default_factory=list)

    @property
    def kept_share(self) -> float:
        """Of all sessions."""
        return self.kept / self.sessions if self.sessions else 1.0

    @property
    def kept_waiting_share(self) -> float:
        """Of all sessions, from their first asking on."""
        return self.kept_waiting / self.sessions if self.sessions else 1.0


@dataclass(slots=True, eq=False)
class _Session:
    tokens: int
    left: float
    asked_s: float
    began_s: float
    hardness: float
    route: list[Replica | None]
    paused_s: float = 0.0


@dataclass(slots=True)
class _Waiting:
    arrival: Arrival
    since_s: float
    again_s: float


class Run:
    """One simulation.

    Args:
        cluster: that it is on.
        load: that comes.
        policy: that scales.
        replicas: that are ready at the beginning, by rank; one of each stage, unless said otherwise.
    """

    def __init__(
        self, cluster: Cluster, load: Load, policy: Policy, *, replicas: tuple[int, ...] | None = None
    ) -> None:
        self._cluster = cluster
        self._load = load
        self._policy = policy
        self._luck = Random(load.seed)
        self._stages = fleet_of(cluster.pipeline, replicas or (1,) * len(cluster.pipeline.stages))
        self._open: list[_Session] = []
        self._waiting: list[_Waiting] = []
        self._refusals = 0
        self._token_ms = [0.0, 0.0]
        self._outcome = Outcome()

    def play(self) -> Outcome:
        """From the first arrival to the end of the load; sessions that are open then are left out."""
        cluster = self._cluster
        arrivals, now_s, next_decision_s = self._load.arrivals(), 0.0, 0.0
        coming = next(arrivals, None)
        while now_s < self._load.length_s:
            if now_s >= next_decision_s:
                next_decision_s += cluster.interval_s
                self._decide(now_s)
            while coming is not None and coming.at_s <= now_s:
                self._ask(_Waiting(coming, now_s, now_s), now_s)
                coming = next(arrivals, None)
            again, self._waiting = self._waiting, []
            for one in again:
                if one.again_s <= now_s:
                    self._ask(one, now_s)
                else:
                    self._waiting.append(one)
            self._go_on(now_s)
            now_s += cluster.step_s
            gpus = sum(stage.occupied_gpus for stage in self._stages)
            self._outcome.gpu_hours += gpus * cluster.step_s / 3600
        return self._outcome

    # Sessions

    def _ask(self, asking: _Waiting, now_s: float) -> None:
        route = [stage.least_loaded(now_s) for stage in self._stages]
        if route[-1] is None:
            if asking.again_s == asking.since_s:
                self._outcome.refused += 1
            self._refusals += 1
            asking.again_s = now_s + RETRY_S * self._luck.uniform(0.8, 1.2)
            self._waiting.append(asking)
            return
        for replica in route:
            if replica is not None:
                replica.sessions += 1
        tokens = asking.arrival.tokens
        spread = self._speed(route).spread * sqrt(PIECE / tokens)
        self._open.append(
            _Session(tokens, float(tokens), asking.since_s, now_s, self._hardness(spread), route)
        )

    def _hardness(self, spread: float) -> float:
        """Of a text: lognormal with mean 1."""
        sigma = sqrt(log1p(min(spread, 1.0) ** 2))
        return exp(self._luck.gauss(0.0, 1.0) * sigma - sigma * sigma / 2)

    def _speed(self, route: list[Replica | None]) -> Speed:
        shares: Shares = tuple(replica.sessions if replica else 0 for replica in route)
        return self._cluster.speeds.of(shares)

    def _go_on(self, now_s: float) -> None:
        """Everybody says what a step's time allows; who has no draft gets one where there is room."""
        step_s = self._cluster.step_s
        still = []
        for session in self._open:
            self._look_after(session, now_s)
            time_ms = 1e3 * step_s
            if session.paused_s > 0:
                pause = min(session.paused_s, step_s)
                session.paused_s -= pause
                time_ms -= 1e3 * pause
            ms = self._speed(session.route).ms_per_token * session.hardness
            said = min(session.left, time_ms / ms)
            session.left -= said
            self._token_ms[0] += said
            self._token_ms[1] += 1e3 * step_s if session.left > 0 else said * ms
            if session.left > 0:
                still.append(session)
            else:
                self._end(session, now_s + said * ms / 1e3)
        self._open = still

    def _look_after(self, session: _Session, now_s: float) -> None:
        for rank, replica in enumerate(session.route):
            if replica is not None and replica.gone_s is None:
                continue
            other = self._stages[rank].least_loaded(now_s)
            if replica is None and other is None:
                continue
            if other is None and rank == len(session.route) - 1:
                continue  # it goes on where it is until there is room elsewhere
            if replica is not None:
                replica.sessions -= 1
                session.paused_s = HANDOVER_S if rank == len(session.route) - 1 else session.paused_s
            if other is not None:
                other.sessions += 1
            session.route[rank] = other

    def _end(self, session: _Session, at_s: float) -> None:
        for replica in session.route:
            if replica is not None:
                replica.sessions -= 1
        allowed_s = session.tokens * self._cluster.goal_ms / 1e3
        self._outcome.sessions += 1
        self._outcome.kept += at_s - session.began_s <= allowed_s
        self._outcome.kept_waiting += at_s - session.asked_s <= allowed_s

    # Decisions

    def _decide(self, now_s: float) -> None:
        load = self._snapshot(now_s)
        wanted = self._policy.decide(load)
        for stage, number in zip(self._stages, wanted, strict=True):
            self._outcome.scalings += number != len(stage.wanted)
            stage.scale(now_s, number, start_s=self._cluster.start_s, drain_s=self._cluster.drain_s)
        gpus = sum(stage.occupied_gpus for stage in self._stages)
        self._outcome.course.append((now_s / 3600, load.sessions, gpus))

    def _snapshot(self, now_s: float) -> FleetLoad:
        tokens, ms = self._token_ms
        refused, self._refusals, self._token_ms = self._refusals, 0, [0.0, 0.0]
        busy = self._busy()
        return FleetLoad(
            now_s=now_s,
            stages=tuple(self._use(stage, now_s, busy[rank]) for rank, stage in enumerate(self._stages)),
            sessions=len(self._open),
            refused=refused,
            ms_per_token=ms / tokens if tokens else None,
        )

    def _use(self, stage: StageFleet, now_s: float, busy: dict[Replica, float]) -> StageUse:
        stage.reap(now_s)
        ready = stage.ready(now_s)
        return StageUse(
            ready=len(ready),
            asked=len(stage.wanted),
            draining=len(stage.draining),
            sessions=sum(replica.sessions for replica in (*stage.wanted, *stage.draining)),
            busy=sum(busy.get(replica, 0.0) for replica in ready) / len(ready) if ready else None,
        )

    def _busy(self) -> list[dict[Replica, float]]:
        """Of every replica that has sessions, as the table says for one of them."""
        busy: list[dict[Replica, float]] = [{} for _ in self._stages]
        for session in self._open:
            speed = self._speed(session.route)
            for rank, replica in enumerate(session.route):
                if replica is not None:
                    busy[rank].setdefault(replica, speed.busy[rank])
        return busy
