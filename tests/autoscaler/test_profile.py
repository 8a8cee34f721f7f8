"""The planner gets the pipeline that is served, with what was measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipespec.autoscaler.profile import planned
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageKind, parse_pipeline

SERVED = {
    "stages": [{"model": "owner/small", "lookahead": 3, "max_sessions": 7}, {"model": "./models/large.gguf"}]
}
MEASURED: list[dict[str, Any]] = [
    {
        "kind": "emulated",
        "lookahead": 8,
        "emulation": {"stands_for": "small", "latency_ms": {1: 5}, "agreement": 0.8},
    },
    {"kind": "emulated", "emulation": {"stands_for": "large.gguf", "latency_ms": {1: 20, 8: 25}}},
]


def pipeline(document: dict[str, Any]) -> Pipeline:
    return parse_pipeline(document, source="test")


def written(folder: Path, stages: list[dict[str, Any]]) -> Path:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def test_speeds_are_those_of_the_profile_and_settings_those_of_the_pipeline(tmp_path: Path) -> None:
    stages = planned(pipeline(SERVED), written(tmp_path, MEASURED)).stages
    assert [stage.kind for stage in stages] == [StageKind.EMULATED] * 2
    assert stages[0].emulation is not None
    assert (stages[0].lookahead, stages[0].max_sessions, stages[0].emulation.agreement) == (3, 7, 0.8)
    assert stages[1].emulation is not None
    assert stages[1].emulation.latency_ms == {1: 20, 8: 25}


def test_emulated_stages_need_no_profile() -> None:
    emulated = pipeline({"stages": MEASURED})
    assert planned(emulated, None) == emulated


def test_what_was_never_measured_cannot_be_planned() -> None:
    with pytest.raises(SettingsError, match=r"autoscaler\.profile is not set.*stages\[0\].*pipespec profile"):
        planned(pipeline(SERVED), None)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (MEASURED[1:], "is of 1 stages, the pipeline .* has 2"),
        (
            [{"model": "owner/small"}, {"model": "owner/large"}],
            "of kind .transformers.: it does not say what a step takes",
        ),
        (
            [MEASURED[0], {"kind": "emulated", "emulation": {"stands_for": "other", "latency_ms": {1: 1}}}],
            r"stages\[1\] stands for 'other', the pipeline serves './models/large.gguf'",
        ),
    ],
    ids=["length", "kind", "name"],
)
def test_the_profile_of_another_pipeline_is_refused(
    tmp_path: Path, stages: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        planned(pipeline(SERVED), written(tmp_path, stages))


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        planned(pipeline(SERVED), tmp_path / "nowhere.yaml")
