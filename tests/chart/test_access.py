"""Who may ask the API server for what, and who may reach whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipespec.kube
from chart.release import EXAMPLES, Manifest, Release, render

_CALL = re.compile(r"\.(list|read|patch|create|replace|delete)_namespaced_([a-z_]+)")
_VERBS = {"read": {"get"}, "list": {"list", "watch"}, "patch": {"patch"}, "create": {"create"}}
_RESOURCES = {
    "endpoint_slice": "endpointslices",
    "stateful_set_scale": "statefulsets/scale",
    "lease": "leases",
}


def _called_by_the_code() -> set[tuple[str, str]]:
    text = "".join(
        path.read_text(encoding="utf-8") for path in Path(pipespec.kube.__file__).parent.glob("*.py")
    )
    calls = set(_CALL.findall(text))
    return {(verb, _RESOURCES[what]) for method, what in calls for verb in _VERBS[method]}


def _granted(release: Release) -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for role in release.of("Role").values()
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def test_all_roles_together_grant_what_the_code_calls_and_no_more() -> None:
    assert _granted(render("autoscaled")) == _called_by_the_code()


@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_is_granted_for_the_whole_cluster_or_by_wildcard(example: str) -> None:
    release = render(example)
    assert not release.of("ClusterRole")
    assert not release.of("ClusterRoleBinding")
    assert not any("*" in cell for pair in _granted(release) for cell in pair)


def test_without_a_watch_and_an_autoscaler_nothing_is_granted() -> None:
    release = render("cpu")
    assert not release.of("Role")
    assert not release.of("RoleBinding")


def test_the_autoscaler_writes_the_scales_that_it_may_choose_alone() -> None:
    release = render("autoscaled", "stages.draft.autoscaling.type=none")
    rules = release.of("Role")["demo-pipespec-autoscaler"]["rules"]
    by_verb = {
        verb: rule.get("resourceNames")
        for rule in rules
        for verb in rule["verbs"]
        if "leases" not in rule["resources"]
    }
    assert by_verb == {
        "get": ["demo-pipespec-draft", "demo-pipespec-target"],
        "patch": ["demo-pipespec-target"],
    }


def test_the_lease_is_granted_by_the_name_that_the_pipeline_file_has() -> None:
    release = render("autoscaled")
    rules = release.of("Role")["demo-pipespec-autoscaler"]["rules"]
    names = {
        verb: rule.get("resourceNames")
        for rule in rules
        if rule["resources"] == ["leases"]
        for verb in rule["verbs"]
    }
    assert release.pipeline.kubernetes is not None
    lease = [release.pipeline.kubernetes.lease]
    assert names == {"get": lease, "patch": lease, "create": None}


def test_an_autoscaler_that_only_looks_may_only_look() -> None:
    role = render("autoscaled", "autoscaler.dryRun=true").of("Role")["demo-pipespec-autoscaler"]
    assert [rule["verbs"] for rule in role["rules"]] == [["get"]]


# ------------------------------------------------------------------------------------------------------------ network

Peer = tuple[dict[str, str], int]


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _labels(release: Release) -> dict[str, dict[str, str]]:
    return {name: pod["metadata"]["labels"] for name, pod in release.pods()}


def _rules(release: Release, labels: dict[str, str], side: str) -> Iterator[Manifest]:
    for policy in release.of("NetworkPolicy").values():
        if _selects(policy["spec"]["podSelector"], labels):
            yield from policy["spec"].get(side, ())


def _allows(rule: Manifest, side: str, labels: dict[str, str], port: int) -> bool:
    peers = rule.get("to" if side == "egress" else "from")
    by_port = "ports" not in rule or any(one["port"] == port for one in rule["ports"])
    by_peer = peers is None or any(
        "podSelector" in peer and "namespaceSelector" not in peer and _selects(peer["podSelector"], labels)
        for peer in peers
    )
    return by_port and by_peer


def _may_connect(release: Release, source: str, destination: str, port: int) -> bool:
    labels = _labels(release)
    out = any(
        _allows(rule, "egress", labels[destination], port)
        for rule in _rules(release, labels[source], "egress")
    )
    into = any(
        _allows(rule, "ingress", labels[source], port)
        for rule in _rules(release, labels[destination], "ingress")
    )
    return out and into


GATEWAY, BROKER = "Deployment/demo-pipespec-gateway", "StatefulSet/demo-pipespec-broker"
AUTOSCALER, DRAFT, TARGET = (
    "Deployment/demo-pipespec-autoscaler",
    "StatefulSet/demo-pipespec-draft",
    "StatefulSet/demo-pipespec-target",
)


@pytest.mark.parametrize("source", [GATEWAY, AUTOSCALER, DRAFT, TARGET])
@pytest.mark.parametrize("port", [5550, 5551])
def test_everyone_reaches_the_brokers(source: str, port: int) -> None:
    assert _may_connect(render("autoscaled"), source, BROKER, port)


def test_nobody_of_the_release_reaches_anybody_else() -> None:
    release = render("autoscaled")
    services = [GATEWAY, BROKER, AUTOSCALER, DRAFT, TARGET]
    ports = [5550, 5551, 8000, 8001, 8002, 9090]
    reached = {
        (source, destination)
        for source in services
        for destination in services
        for port in ports
        if _may_connect(release, source, destination, port)
    }
    assert reached == {(source, BROKER) for source in services if source != BROKER}


def test_each_end_of_a_connection_is_restricted_by_itself() -> None:
    release = render("autoscaled")
    labels = _labels(release)
    out = [rule for rule in _rules(release, labels[GATEWAY], "egress") if "to" in rule]
    assert not any(_allows(rule, "egress", labels[TARGET], 5550) for rule in out)
    assert not any(
        _allows(rule, "ingress", labels[BROKER], 5550) for rule in _rules(release, labels[BROKER], "ingress")
    )


@pytest.mark.parametrize(("test", "port"), [("http", 8000), ("grpc", 8001), ("zmq", 8002)])
@pytest.mark.parametrize("example", ["autoscaled", "locked-down"])
def test_the_test_pods_reach_the_gateways(example: str, test: str, port: int) -> None:
    assert _may_connect(render(example), f"Pod/demo-pipespec-test-{test}", GATEWAY, port)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_policy_selects_a_pod_and_every_pod_has_the_default(example: str) -> None:
    release = render(example)
    labels = _labels(release)
    for name, policy in release.of("NetworkPolicy").items():
        selected = {pod for pod in labels if _selects(policy["spec"]["podSelector"], labels[pod])}
        assert selected, name
        if name == "demo-pipespec-default":
            assert selected == set(labels)
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def _pods_of(release: Release, policy: str) -> set[str]:
    selector = release.of("NetworkPolicy")[policy]["spec"]["podSelector"]
    return {name for name, labels in _labels(release).items() if _selects(selector, labels)}


def test_only_those_who_ask_the_api_server_reach_it() -> None:
    assert _pods_of(render("autoscaled"), "demo-pipespec-api-server") == {GATEWAY, AUTOSCALER}
    assert "demo-pipespec-api-server" not in render("cpu").of("NetworkPolicy")


def test_only_the_download_job_reaches_the_hub() -> None:
    release = render("llama-1b-8b-70b")
    (job,) = (f"Job/{name}" for name in release.of("Job"))
    assert _pods_of(release, "demo-pipespec-hub") == {job}
    assert "demo-pipespec-hub" not in render("locked-down").of("NetworkPolicy")


def test_pods_that_download_for_themselves_reach_the_hub() -> None:
    release = render("single-gpu", "modelCache.type=emptyDir", "modelCache.accessModes={ReadWriteMany}")
    assert _pods_of(release, "demo-pipespec-hub") == {GATEWAY, TARGET}
    assert not release.of("Job")


def test_clients_and_monitoring_are_who_the_values_say() -> None:
    release = render("locked-down").of("NetworkPolicy")
    clients = release["demo-pipespec-clients"]["spec"]["ingress"][0]["from"]
    namespaces = [peer["namespaceSelector"]["matchLabels"] for peer in clients if "namespaceSelector" in peer]
    assert [one["kubernetes.io/metadata.name"] for one in namespaces] == ["ingress-nginx", "apps"]
    metrics = release["demo-pipespec-metrics"]["spec"]["ingress"][0]
    assert metrics["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }


def test_no_policies_where_they_are_not_wanted() -> None:
    assert not render("cpu", "networkPolicy.enabled=false").of("NetworkPolicy")
