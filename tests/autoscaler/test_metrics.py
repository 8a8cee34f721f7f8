"""What is scraped is what was heard, decided and failed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from autoscaler.virtual import EVERYONE, INTERVAL_S, Cluster, Service
from pipespec.autoscaler.metrics import AutoscalerMetrics
from pipespec.bus.link import BusLink
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import observer_inbox

BROKER = BrokerSettings(publish_port=1, subscribe_port=2)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(failures={"scale": {"409": 2}, "lease": {"timeout": 1}})


@pytest.fixture
def service(cluster: Cluster) -> Service:
    return Service(cluster=cluster)


@pytest.fixture
def registry(service: Service, cluster: Cluster) -> Iterator[CollectorRegistry]:
    link = BusLink([BROKER], inbox=observer_inbox("autoscaler-a0"))
    registry = CollectorRegistry()
    registry.register(AutoscalerMetrics(service.loop, link, cluster))
    yield registry
    link.close()


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"pipespec_autoscaler_{name}", labels)


def test_before_a_decision_there_is_none(registry: CollectorRegistry) -> None:
    assert sample(registry, "telemetry_complete") == 0
    assert sample(registry, "wanted_replicas", stage="0") is None


def test_a_decision_shows_with_what_it_is_about(service: Service, registry: CollectorRegistry) -> None:
    service.script.wanted = (2, 3)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    assert sample(registry, "telemetry_complete") == 1
    assert [sample(registry, "asked_replicas", stage=stage) for stage in "01"] == [1, 1]
    assert [sample(registry, "wanted_replicas", stage=stage) for stage in "01"] == [2, 3]
    assert sample(registry, "decisions_total", outcome="more") == 1
    assert sample(registry, "sessions") == 7
    assert sample(registry, "wanted_gpus") == 5
    assert sample(registry, "goal_met") == 1
    assert sample(registry, "telemetry_age_seconds", stage="1") is not None


def test_leading_and_failures_are_the_clusters(registry: CollectorRegistry, cluster: Cluster) -> None:
    assert sample(registry, "leader") == 1
    cluster.is_leading = False
    assert sample(registry, "leader") == 0
    assert sample(registry, "api_failures_total", call="scale", code="409") == 2
    assert sample(registry, "api_failures_total", call="lease", code="timeout") == 1
