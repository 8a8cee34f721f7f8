"""What the loop makes of what it hears, in virtual time; who decides is scripted, who scales is a list."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

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


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def service(cluster: Cluster) -> Service:
    return Service(cluster=cluster)


def test_the_first_decision_comes_after_a_whole_interval(service: Service) -> None:
    service.hear(*EVERYONE, seconds=INTERVAL_S)
    assert not service.script.loads
    service.hear(*EVERYONE, seconds=1)
    assert len(service.script.loads) == 1


def test_then_one_comes_every_interval(service: Service) -> None:
    service.hear(*EVERYONE, seconds=1 + 4 * INTERVAL_S)
    assert len(service.script.loads) == 4


def test_what_is_decided_is_wished_for(service: Service, cluster: Cluster) -> None:
    service.script.wanted = (2, 3)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    assert cluster.wish == {DRAFT: 2, TARGET: 3}
    assert service.loop.counts == {"more": 1}


def test_only_what_may_be_scaled_is_wished_for(cluster: Cluster) -> None:
    service = Service(cluster=cluster, scaled=(TARGET,))
    service.script.wanted = (2, 3)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    assert cluster.wish == {TARGET: 3}


def test_the_load_is_what_was_heard(service: Service, cluster: Cluster) -> None:
    cluster.replicas = {DRAFT: 2, TARGET: 4}
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    (load,) = service.script.loads
    assert load.sessions == 7
    assert [(stage.ready, stage.asked) for stage in load.stages] == [(1, 2), (1, 4)]


@pytest.mark.parametrize("silent", EVERYONE)
def test_a_deaf_autoscaler_wishes_for_nothing_and_says_so(
    service: Service, cluster: Cluster, silent: str
) -> None:
    service.script.wanted = (2, 3)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    with capture_logs() as logs:
        service.hear(*(set(EVERYONE) - {silent}), seconds=3 * INTERVAL_S)
    assert cluster.wish == {}
    assert service.loop.lack
    assert len(service.script.loads) == 1
    assert [entry["lack"] for entry in logs if entry["event"] == "autoscaler.deaf"] == [service.loop.lack]


def test_a_broker_that_is_away_is_no_idle_fleet(service: Service, cluster: Cluster) -> None:
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    service.is_joined = False
    service.hear(seconds=3 * INTERVAL_S)
    assert cluster.wish == {}
    assert len(service.script.loads) == 1
    service.is_joined = True
    service.hear(*EVERYONE, seconds=INTERVAL_S)
    assert len(service.script.loads) == 1
    service.hear(*EVERYONE, seconds=1)
    assert len(service.script.loads) == 2


def test_what_was_decided_about_a_fleet_that_has_fallen_silent_is_not_wished_for(
    service: Service, cluster: Cluster
) -> None:
    service.script.wanted = (2, 3)
    service.script.may_decide.clear()
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    service.hear("draft", seconds=2)
    service.script.may_decide.set()
    service.hear("draft", seconds=1)
    assert len(service.script.loads) == 1
    assert {DRAFT: 2, TARGET: 3} not in cluster.wishes


def test_a_long_decision_does_not_stop_the_loop_nor_begin_another(service: Service) -> None:
    service.script.may_decide.clear()
    service.hear(*EVERYONE, seconds=5 * INTERVAL_S)
    assert service.loop.turned_s == service.now_s
    service.script.may_decide.set()
    service.hear(*EVERYONE, seconds=1)
    assert len(service.script.loads) in (1, 2)
    assert service.script.loads[0].now_s < 1000 + INTERVAL_S + 1


def test_a_decision_that_fails_ends_the_service(service: Service) -> None:
    service.script.wanted = (-1, -1)
    with pytest.raises(ValueError, match="a bug"):
        service.hear(*EVERYONE, seconds=INTERVAL_S + 1)


def test_until_the_cluster_has_said_its_replicas_nothing_is_decided(
    service: Service, cluster: Cluster
) -> None:
    del cluster.replicas[TARGET]
    service.hear(*EVERYONE, seconds=3 * INTERVAL_S)
    assert not service.script.loads
    assert service.loop.lack == "the cluster has not said the replicas of stage 1"


def test_a_dry_run_decides_and_wishes_for_nothing(cluster: Cluster) -> None:
    service = Service(cluster=cluster, dry_run=True)
    service.script.wanted = (2, 3)
    with capture_logs() as logs:
        service.hear(*EVERYONE, seconds=3 * INTERVAL_S)
    assert not cluster.wishes
    said = [
        entry for entry in logs if entry["event"] == "autoscaler.decided" and entry["log_level"] == "info"
    ]
    assert [entry["replicas"] for entry in said] == [(2, 3)]
    assert said[0]["reason"] == "as scripted"


def test_without_a_cluster_replicas_are_those_that_live() -> None:
    service = Service(cluster=None, dry_run=True)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    (load,) = service.script.loads
    assert [stage.asked for stage in load.stages] == [1, 1]


@pytest.mark.parametrize(("leads", "level"), [(True, "info"), (False, "debug")])
def test_changes_of_the_leader_are_said_aloud(
    service: Service, cluster: Cluster, leads: bool, level: str
) -> None:
    cluster.is_leading = leads
    service.script.wanted = (2, 3)
    with capture_logs() as logs:
        service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    (said,) = [entry for entry in logs if entry["event"] == "autoscaler.decided"]
    assert said["log_level"] == level
    assert (said["asked"], said["replicas"], said["leads"]) == ((1, 1), (2, 3), leads)


def test_what_changes_nothing_is_not_said_aloud(service: Service) -> None:
    with capture_logs() as logs:
        service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    assert [entry["log_level"] for entry in logs if entry["event"] == "autoscaler.decided"] == ["debug"]
    assert service.loop.counts == {"same": 1}


def test_replicas_of_other_chains_do_not_count(service: Service) -> None:
    service.beats["target"] = stage_beat(1, "r0", num_stages=5)
    service.hear(*EVERYONE, seconds=2 * INTERVAL_S)
    assert service.loop.lack == "no heartbeats of stage 1"
