"""What the loop makes of what it hears, in virtual time."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from autoscaler.beats import stage_beat
from autoscaler.virtual import DRAFT, EVERYONE, INTERVAL_S, TARGET, Cluster, Service


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
