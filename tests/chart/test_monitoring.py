"""Dashboards and alerts ask for metrics that exist; monitors find the pods that have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from chart.exported import exported
from chart.release import CHART, MONITORING, Release, render

_NAME = re.compile(r"pipespec_[a-z_]+")
_SELECTOR = re.compile(r"(pipespec_[a-z_]+)\{([^}]*)\}")
_LABEL = re.compile(r"([a-z_]+)[=!]")
_GROUPING = re.compile(r"by \(([^)]*)\)")
_ADDED = {"namespace", "pod", "release", "component", "le"}
"""Labels that monitors or Prometheus add."""


def _expressions(release: Release) -> Iterator[tuple[str, str]]:
    for rule in _alerts(release):
        yield rule["alert"], rule["expr"]
    for path in (CHART / "files" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def _alerts(release: Release) -> list[dict[str, str]]:
    (rules,) = release.of("PrometheusRule").values()
    return list(rules["spec"]["groups"][0]["rules"])


@pytest.fixture(scope="module")
def monitored() -> Release:
    return render("autoscaled", api_versions=MONITORING)


@pytest.fixture(scope="module")
def metrics(monitored: Release) -> dict[str, set[str]]:
    return exported(monitored.pipeline)


def test_every_metric_that_is_asked_for_exists(monitored: Release, metrics: dict[str, set[str]]) -> None:
    asked = {name for _, expression in _expressions(monitored) for name in _NAME.findall(expression)}
    assert asked <= set(metrics)
    assert len(asked) > 30


def test_every_label_that_is_asked_for_exists(monitored: Release, metrics: dict[str, set[str]]) -> None:
    for where, expression in _expressions(monitored):
        known = set(_ADDED)
        for name, matchers in _SELECTOR.findall(expression):
            known |= metrics[name]
            matched = set(_LABEL.findall(matchers))
            assert matched <= metrics[name] | _ADDED, where
            assert {"namespace", "release"} <= matched, f"{where}: other releases are not left out"
        for group in _GROUPING.findall(expression):
            assert {label.strip() for label in group.split(",")} <= known, where


def test_parentheses_and_braces_of_expressions_close(monitored: Release) -> None:
    for where, expression in _expressions(monitored):
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), where


def test_alerts_are_named_once_and_say_what_to_do(monitored: Release) -> None:
    alerts = _alerts(monitored)
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert {"summary", "description"} <= set(alert["annotations"])
        assert alert["labels"]["severity"] in {"info", "warning", "critical"}


def test_an_alert_can_be_left_out() -> None:
    release = render("autoscaled", "metrics.rules.disabled={PipespecDraftGone}", api_versions=MONITORING)
    assert "PipespecDraftGone" not in {alert["alert"] for alert in _alerts(release)}


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor", "PrometheusRule"])
def test_what_the_cluster_does_not_know_is_not_made_by_itself(kind: str) -> None:
    assert not render("cpu").of(kind)


def test_the_monitor_is_of_the_kind_that_the_values_say() -> None:
    assert render("cpu", api_versions=MONITORING).of("PodMonitor")
    services = render("cpu", "metrics.monitor.kind=ServiceMonitor", api_versions=MONITORING)
    assert services.of("ServiceMonitor")
    assert not services.of("PodMonitor")


def test_monitors_can_be_switched_off_where_the_cluster_knows_them() -> None:
    off = render(
        "cpu",
        *(f"metrics.{one}.enabled=false" for one in ("monitor", "rules", "dashboards")),
        api_versions=MONITORING,
    )
    assert not {"PodMonitor", "PrometheusRule"} & {one["kind"] for one in off.objects}
    assert not [name for name in off.of("ConfigMap") if "dashboard" in name]


def test_a_service_monitor_finds_every_workload_once() -> None:
    release = render("autoscaled", "metrics.monitor.kind=ServiceMonitor", api_versions=MONITORING)
    (monitor,) = release.of("ServiceMonitor").values()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [
        service["spec"]["selector"]["app.kubernetes.io/component"]
        for service in release.of("Service").values()
        if wanted <= service["metadata"]["labels"].items()
    ]
    assert sorted(found) == ["autoscaler", "broker", "gateway", "stage-draft", "stage-target"]
