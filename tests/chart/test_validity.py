"""The checks of manifests find what they are there for."""

from __future__ import annotations

import copy

from chart.release import MONITORING, Manifest, render
from chart.validity import problems


def _copy(kind: str, example: str = "autoscaled") -> Manifest:
    return copy.deepcopy(next(iter(render(example, api_versions=MONITORING).of(kind).values())))


def test_a_key_that_kubernetes_does_not_know_is_found() -> None:
    manifest = _copy("StatefulSet")
    manifest["spec"]["replica"] = 1
    assert problems(manifest, "1.37")


def test_a_kind_without_a_schema_is_a_problem_and_not_skipped() -> None:
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSets", "metadata": {"name": "x"}}
    assert "Couldn't find schema" in problems(manifest, "1.37")[0]


def test_a_key_that_a_custom_resource_does_not_know_is_found() -> None:
    manifest = _copy("PodMonitor")
    manifest["spec"]["podMetricsEndpoints"][0]["portt"] = "metrics"
    assert problems(manifest, "1.37")


def test_a_port_out_of_range_is_found() -> None:
    manifest = _copy("Service")
    manifest["spec"]["ports"][0]["port"] = 99999
    assert "99999 is no port" in problems(manifest, "1.37")[0]


def test_two_ports_of_one_number_are_found() -> None:
    manifest = _copy("Deployment")
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"name": "a", "containerPort": 80}, {"name": "b", "containerPort": 80}]
    assert "two ports" in problems(manifest, "1.37")[0]


def test_a_budget_with_both_limits_is_found() -> None:
    manifest = _copy("PodDisruptionBudget")
    manifest["spec"]["minAvailable"] = 1
    assert "one of minAvailable" in problems(manifest, "1.37")[0]


def test_an_hpa_that_looks_at_nothing_is_found() -> None:
    manifest = _copy("HorizontalPodAutoscaler")
    manifest["spec"]["metrics"] = []
    assert "looks at nothing" in problems(manifest, "1.37")[0]
