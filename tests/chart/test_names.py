"""Names fit wherever Kubernetes puts them, and point at what exists."""

from __future__ import annotations

import re

import pytest

from chart.release import EXAMPLES, MONITORING, Release, render

_LONG = "a-release-with-a-name-as-long-as-helm-lets-it-be-12345"[:53]
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_STAGE_WITH_20_LETTERS = """
stages:
  a-stage-of-20-letter: {index: 2, kind: emulated, emulation: {latencyMs: {1: 90}}}
  target: {emulation: {agreement: 0.9, seed: null}}
"""


def _all_labels(release: Release) -> list[str]:
    owners = [*release.objects, *(pod for _, pod in release.pods())]
    return [value for one in owners for value in one["metadata"].get("labels", {}).values()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_names_fit_with_the_longest_release_name(example: str) -> None:
    release = render(example, release=_LONG, api_versions=MONITORING)
    for one in release.objects:
        name = one["metadata"]["name"]
        assert _LABEL.fullmatch(name), name
        if one["kind"] == "StatefulSet":
            assert len(name) <= 52, name
    assert all(len(value) <= 63 for value in _all_labels(release))
    assert len(release.pipeline.name) <= 40


def test_a_stage_with_the_longest_name_fits_too() -> None:
    release = render("emulated", release=_LONG, values=_STAGE_WITH_20_LETTERS)
    assert max(len(name) for name in release.of("StatefulSet")) == 52
    assert release.pipeline.target.emulation is not None


def test_releases_whose_names_differ_at_their_ends_do_not_meet() -> None:
    names = [
        {(one["kind"], one["metadata"]["name"]) for one in render("cpu", release=_LONG[:-1] + end).objects}
        for end in "ab"
    ]
    assert not names[0] & names[1]


def test_the_full_name_can_be_chosen() -> None:
    assert "llm-gateway" in render("cpu", "fullnameOverride=llm").of("Deployment")


def test_selectors_are_name_instance_and_component() -> None:
    keys = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    for kind in ("Deployment", "StatefulSet"):
        for name, one in render("autoscaled").of(kind).items():
            assert set(one["spec"]["selector"]["matchLabels"]) == keys, name


@pytest.mark.parametrize("example", EXAMPLES)
def test_selectors_find_the_pods_of_their_own_workload_alone(example: str) -> None:
    release = render(example)
    labels = {name: pod["metadata"]["labels"] for name, pod in release.pods()}
    for kind in ("Deployment", "StatefulSet"):
        for name, one in release.of(kind).items():
            wanted = one["spec"]["selector"]["matchLabels"].items()
            assert [pod for pod in labels if wanted <= labels[pod].items()] == [f"{kind}/{name}"]
    for kind in ("Service", "PodDisruptionBudget"):
        for name, one in release.of(kind).items():
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            assert len([pod for pod in labels if wanted <= labels[pod].items()]) == 1, name


@pytest.mark.parametrize("example", EXAMPLES)
def test_services_point_at_ports_that_pods_have(example: str) -> None:
    release = render(example)
    pods = [pod for _, pod in release.pods()]
    for name, service in release.of("Service").items():
        selector = service["spec"]["selector"].items()
        (pod,) = (one for one in pods if selector <= one["metadata"]["labels"].items())
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name


@pytest.mark.parametrize("example", EXAMPLES)
def test_brokers_are_named_as_their_pods_will_be(example: str) -> None:
    release = render(example)
    service = release.of("Service")["demo-pipespec-broker"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    hosts = [broker.host for broker in release.pipeline.brokers]
    assert hosts == [
        f"demo-pipespec-broker-{n}.demo-pipespec-broker.default.svc.cluster.local" for n in range(2)
    ]
    broker = release.of("StatefulSet")["demo-pipespec-broker"]
    assert broker["spec"]["replicas"] == len(hosts)
    ports = {
        port["name"]: port["containerPort"]
        for port in broker["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    settings = release.pipeline.brokers[0]
    assert ports == {
        "publish": settings.publish_port,
        "subscribe": settings.subscribe_port,
        "metrics": settings.metrics_port,
    }


def test_grpc_clients_can_balance() -> None:
    services = render("cpu").of("Service")
    assert services["demo-pipespec-gateway-headless"]["spec"]["clusterIP"] == "None"
    assert {port["name"] for port in services["demo-pipespec-gateway"]["spec"]["ports"]} == {
        "http",
        "grpc",
        "zmq",
    }
