"""Settings that an autoscaler cannot work with stop its start, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import kube_config

from pipespec.autoscaler.service import run
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import parse_pipeline

EMULATED = {"kind": "emulated", "emulation": {"latency_ms": {1: 20}}}
SCALED = EMULATED | {"scaling": {"max_replicas": 3}}
GOAL = {"goal_ms": 30}
KUBERNETES = {"namespace": "a", "workloads": ["target"]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"stages": [SCALED]}, "no 'autoscaler': give it one with at least 'goal_ms'"),
        ({"stages": [SCALED], "autoscaler": GOAL}, "no 'kubernetes', so nothing can be scaled"),
        ({"stages": [EMULATED], "autoscaler": GOAL, "kubernetes": KUBERNETES}, "no stage has 'scaling'"),
        (
            {
                "stages": [{"model": "owner/x", "scaling": {"max_replicas": 3}}],
                "autoscaler": GOAL,
                "kubernetes": KUBERNETES,
            },
            r"autoscaler\.profile is not set",
        ),
        ({"stages": [SCALED], "autoscaler": GOAL, "kubernetes": KUBERNETES}, "no Kubernetes API to talk to"),
    ],
    ids=["no goal", "no cluster", "nothing to scale", "nothing measured", "no API"],
)
def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=said):
        run(parse_pipeline(document, source="test"), "a0")
