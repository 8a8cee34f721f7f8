"""A loop in virtual time: who decides is scripted, who scales has what it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.beats import NUM_STAGES, Speakers, gateway_beat, stage_beat
from pipespec.autoscaler.freshness import Freshness
from pipespec.autoscaler.loop import AutoscalerLoop
from pipespec.autoscaler.thinking import Thinking
from pipespec.ops.cluster import AutoscalerSettings
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.load import FleetLoad
from pipespec.protocol.ids import Rank
from pipespec.protocol.telemetry import Telemetry

DRAFT, TARGET = Rank(0), Rank(1)
HEARTBEAT_S, INTERVAL_S = 0.1, 5.0
EVERYONE = ("draft", "target", "gateway")


@dataclass
class Script:
    """Decides what it is told to, and remembers what it was asked."""

    wanted: tuple[int, int] = (1, 1)
    loads: list[FleetLoad] = field(default_factory=list)
    may_decide: threading.Event = field(default_factory=threading.Event)

    def decide(self, load: FleetLoad) -> Decision:
        self.may_decide.wait(30)
        self.loads.append(load)
        if self.wanted[1] < 0:
            raise ValueError("a bug")
        return Decision(
            replicas=self.wanted,
            reason="as scripted",
            sessions=load.sessions,
            demand=float(load.sessions),
            forecast=load.sessions,
            needed=self.wanted,
            chain=(0, 1),
            bottleneck=None,
            ms_per_token=10.0,
            goal_ms=20.0,
            is_met=True,
            gpus=float(sum(self.wanted)),
            held=(),
        )


@dataclass
class Cluster:
    """Has what it is asked for."""

    replicas: dict[Rank, int] = field(default_factory=lambda: {DRAFT: 1, TARGET: 1})
    wishes: list[dict[Rank, int]] = field(default_factory=list)
    is_leading: bool = True
    is_running: bool = True
    failures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def request(self, wish: Mapping[Rank, int]) -> None:
        if not self.wishes or self.wishes[-1] != wish:
            self.wishes.append(dict(wish))
        if self.is_leading:
            self.replicas.update(wish)

    @property
    def wish(self) -> dict[Rank, int]:
        return self.wishes[-1] if self.wishes else {}


class Service:
    """A loop and all that is around it."""

    def __init__(
        self, *, cluster: Cluster | None, dry_run: bool = False, scaled: tuple[Rank, ...] = (DRAFT, TARGET)
    ) -> None:
        self.now_s = 1000.0
        self.script = Script()
        self.script.may_decide.set()
        self.is_joined = True
        self.beats = {
            "draft": stage_beat(0, "r0"),
            "target": stage_beat(1, "r0"),
            "gateway": gateway_beat(sessions=7),
        }
        self.thinking = Thinking(self.script)
        self.loop = AutoscalerLoop(
            scaled,
            AutoscalerSettings(goal_ms=20, interval_s=INTERVAL_S, dry_run=dry_run),
            now_s=self.now_s,
            telemetry=Telemetry(dead_s=1.0, window_s=INTERVAL_S),
            freshness=Freshness(num_stages=NUM_STAGES, heartbeat_s=HEARTBEAT_S),
            thinking=self.thinking,
            cluster=cluster,
        )
        self._speakers = Speakers()

    def hear(self, *who: str, seconds: float) -> None:
        """Turn while these speak; decisions take no time."""
        for _ in range(round(seconds / HEARTBEAT_S)):
            self.now_s += HEARTBEAT_S
            said = [self._speakers.say(self.beats[name]) for name in who]
            self.loop.turn(self.now_s, said, is_joined=self.is_joined)
            while self.thinking.is_busy and self.script.may_decide.is_set():
                time.sleep(0.001)
                self.loop.turn(self.now_s, [], is_joined=self.is_joined)
