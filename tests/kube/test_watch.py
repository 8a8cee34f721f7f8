"""The watch hears of pods that end, whatever becomes of its connection."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from kubernetes.client import ApiClient
from prometheus_client import CollectorRegistry

from kube.api_server import ApiServer
from kube.slices import RESOURCE, endpoint_slice
from kube.waiting import eventually
from pipespec.kube.failure import Patience
from pipespec.kube.metrics import WatchMetrics
from pipespec.kube.watch import EndpointWatch, WatchTimes
from pipespec.ops.cluster import KubernetesSettings

SETTINGS = KubernetesSettings(namespace="inference", workloads=("draft", "target"))
PATH = "/endpointslices"
TIMES = WatchTimes(
    watch_s=1,
    shortest_s=0.01,
    patience=Patience(connect_s=1.0, read_s=0.3),
    first_wait_s=0.02,
    longest_wait_s=0.1,
)


@pytest.fixture
def watch(client: ApiClient, api: ApiServer) -> EndpointWatch:
    """Not begun yet."""
    api.store(RESOURCE, "s", endpoint_slice("target", target_0=False, target_1=False))
    return EndpointWatch(client, SETTINGS, times=TIMES)


def ending(watch: EndpointWatch) -> set[str]:
    return {pod for rank, pod in watch.endings if rank == 1}


def change(api: ApiServer, **pods: bool) -> None:
    """Have the slice say something else; whoever watches hears it with the next watch, whoever lists at once."""
    api.store(RESOURCE, "s", endpoint_slice("target", **pods))


def event(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": document}


def test_a_pod_that_ends_is_heard_of_and_so_is_its_return(watch: EndpointWatch, api: ApiServer) -> None:
    with watch:
        eventually(lambda: watch.age_s is not None)
        assert ending(watch) == set()
        change(api, target_0=False, target_1=True)
        eventually(lambda: ending(watch) == {"target-1"})
        change(api, target_0=False)
        eventually(lambda: api.num_calls("GET", PATH) >= 5)
        assert ending(watch) == {"target-1"}
        change(api, target_0=False, target_1=False)
        eventually(lambda: ending(watch) == set())
    assert not watch.failures


def test_events_of_one_watch_are_followed_in_order(watch: EndpointWatch, api: ApiServer) -> None:
    bookmark = {"kind": "EndpointSlice", "metadata": {"resourceVersion": "1000"}}
    other = endpoint_slice("database", name="o", database_0=True)
    api.scripts.append(
        [
            event("MODIFIED", endpoint_slice("target", target_0=True, target_1=True)),
            event("ADDED", other),
            event("BOOKMARK", bookmark),
            event("MODIFIED", endpoint_slice("target", target_0=True, target_1=False)),
        ]
    )
    api.store(
        RESOURCE, "s", endpoint_slice("target", target_0=True, target_1=False)
    )  # what later watches say
    with watch:
        eventually(lambda: ending(watch) == {"target-0"})
    assert not watch.failures


def test_the_next_watch_begins_at_the_last_bookmark(watch: EndpointWatch, api: ApiServer) -> None:
    api.scripts.append([event("BOOKMARK", {"metadata": {"resourceVersion": "1000"}})])
    with watch:
        eventually(lambda: api.watched_from[-1:] == ["1000"])


@pytest.mark.parametrize("answer", [410, 429, 500, "reset", "hang"])
@pytest.mark.parametrize("at", ["list", "watch"])
def test_a_fault_ends_nothing(watch: EndpointWatch, api: ApiServer, at: str, answer: int | str) -> None:
    api.fail("GET", PATH, answer, times=2, watch=at == "watch")
    with watch:
        eventually(lambda: watch.failures.total() == 2)
        change(api, target_0=True, target_1=False)
        eventually(lambda: ending(watch) == {"target-0"})
    code = {"reset": "unreachable", "hang": "timeout"}.get(str(answer), str(answer))
    assert watch.failures == {code: 2}


def test_a_version_that_expires_during_a_watch_begins_a_new_list(
    watch: EndpointWatch, api: ApiServer
) -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    api.scripts.append([event("ERROR", expired)])
    with watch:
        eventually(lambda: watch.failures == {"410": 1})
        eventually(lambda: watch.age_s is not None and api.num_lists == 2)


@pytest.mark.parametrize("line", [b"<html>\n", b'{"type": "ERROR", "object": {}}\n', b'{"type": "ADDED"}\n'])
def test_nonsense_ends_nothing(watch: EndpointWatch, api: ApiServer, line: bytes) -> None:
    api.scripts.append([line])
    with watch:
        change(api, target_0=True, target_1=False)
        eventually(lambda: ending(watch) == {"target-0"})


def test_retry_after_is_kept_to(client: ApiClient, api: ApiServer) -> None:
    api.fail("GET", PATH, 429, headers={"Retry-After": "3600"})
    with EndpointWatch(client, SETTINGS, times=TIMES) as watch:
        eventually(lambda: watch.failures == {"429": 1})
        time.sleep(5 * TIMES.longest_wait_s)  # that nothing happens has no event to wait for
        assert api.num_calls("GET", PATH) == 1


def test_an_absent_server_ages_knowledge_until_it_is_trusted_no_more(
    client: ApiClient, api: ApiServer
) -> None:
    api.store(RESOURCE, "s", endpoint_slice("target", target_0=True))
    times = WatchTimes(
        watch_s=1,
        shortest_s=0.01,
        patience=TIMES.patience,
        first_wait_s=0.02,
        longest_wait_s=0.1,
        trust_s=2.0,
    )
    with EndpointWatch(client, SETTINGS, times=times) as watch:
        eventually(lambda: ending(watch) == {"target-0"})
        away = [api.fail("GET", PATH, "reset", times=10**6, watch=watching) for watching in (True, False)]
        eventually(lambda: not watch.endings)
        assert watch.age_s is not None
        assert watch.age_s > times.trust_s
        for fault in away:
            fault.times = 0
        eventually(lambda: ending(watch) == {"target-0"})


def test_the_end_does_not_wait_for_a_quiet_server(client: ApiClient, api: ApiServer) -> None:
    patient = WatchTimes(watch_s=600, patience=Patience(connect_s=10.0, read_s=600.0))
    with EndpointWatch(client, SETTINGS, times=patient) as watch:
        eventually(lambda: watch.age_s is not None)
    assert not watch._thread.is_alive()
    assert not watch.failures


def test_a_server_that_ends_watches_at_once_is_not_flooded(client: ApiClient, api: ApiServer) -> None:
    api.scripts.extend([] for _ in range(100))
    times = WatchTimes(watch_s=1, shortest_s=3600.0, patience=TIMES.patience)
    with EndpointWatch(client, SETTINGS, times=times):
        eventually(lambda: len(api.scripts) == 99)
        time.sleep(0.2)  # that nothing happens has no event to wait for
    assert len(api.scripts) == 99


def test_metrics_say_how_old_its_knowledge_is_and_what_failed(watch: EndpointWatch, api: ApiServer) -> None:
    def value(name: str, **labels: str) -> float:
        registry = CollectorRegistry()
        registry.register(WatchMetrics(watch))
        return registry.get_sample_value(name, labels) or 0.0

    assert math.isnan(value("pipespec_kube_watch_age_seconds"))
    api.fail("GET", PATH, 500, times=1)
    with watch:
        eventually(lambda: watch.age_s is not None)
        assert value("pipespec_kube_watch_age_seconds") >= 0
        assert value("pipespec_kube_watch_failures_total", code="500") == 1
