"""Pods are replaced for what they read and for nothing else: a target may take minutes to load."""

from __future__ import annotations

import pytest

from chart.release import Release, render

_NOTHING: set[str] = set()
_GATEWAY, _BROKER, _AUTOSCALER = {"gateway"}, {"broker"}, {"autoscaler"}
_STAGES = {"stage-draft", "stage-target"}


def _checksums(release: Release) -> dict[str, str]:
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: str(pod["metadata"]["annotations"])
        for name, pod in release.pods()
        if name.startswith(("Deployment", "StatefulSet"))
    }


@pytest.mark.parametrize(
    ("change", "replaced"),
    [
        ("autoscaler.goalMs=30", _AUTOSCALER),
        ("stages.target.autoscaling.maxReplicas=20", _AUTOSCALER),
        ("autoscaler.profile=measured", _AUTOSCALER),
        ("gateway.maxSessions=100", _GATEWAY | _AUTOSCALER),
        ("stages.draft.lookahead=4", _GATEWAY | _AUTOSCALER | _STAGES),
        ("timers.leaseMs=5000", _GATEWAY | _AUTOSCALER | _STAGES),
        ("log.level=debug", _GATEWAY | _AUTOSCALER | _STAGES | _BROKER),
        ("broker.replicas=3", _GATEWAY | _AUTOSCALER | _STAGES | _BROKER),
        ("tests.prompt=Hello", _NOTHING),
        ("metrics.monitor.interval=30s", _NOTHING),
    ],
)
def test_a_change_replaces_who_reads_it(change: str, replaced: set[str]) -> None:
    before, after = _checksums(render("autoscaled")), _checksums(render("autoscaled", change))
    assert {component for component in before if before[component] != after[component]} == replaced


def test_a_new_chart_alone_replaces_no_pod() -> None:
    for name, pod in render("autoscaled").pods():
        if not name.startswith("Pod/"):
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(pod["metadata"]["labels"]), name


def test_a_model_that_changes_is_fetched_by_a_job_of_another_name() -> None:
    before = set(render("single-gpu").of("Job"))
    assert before == set(render("single-gpu", "stages.target.lookahead=4").of("Job"))
    assert not before & set(render("single-gpu", "stages.target.revision=main").of("Job"))
