"""The pipeline that a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipespec.cli.local.document import parse_change, read_pipeline
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import StageKind


def test_the_default_needs_no_file() -> None:
    pipeline = read_pipeline(None)
    assert [stage.kind for stage in pipeline.stages] == [StageKind.SUFFIX, StageKind.TRANSFORMERS]
    assert pipeline.model_name == "smollm2-135m-instruct"


def test_single_settings_can_be_changed(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text("stages: [{model: a/b}, {model: c/d}]\nbrokers: [{}, {}]", encoding="utf-8")
    changes = [
        parse_change(change)
        for change in ("stages.1.lookahead=4", "brokers.1.host=::1", "gateway.model_name=x=y", "name=other")
    ]
    pipeline = read_pipeline(file, changes=changes)
    assert pipeline.stages[1].lookahead == 4
    assert pipeline.brokers[1].host == "::1"
    assert pipeline.gateway.model_name == "x=y"
    assert pipeline.name == "other"


def test_changes_do_not_stay_in_the_default() -> None:
    before = read_pipeline(None)
    assert read_pipeline(None, changes=[("stages.0.lookahead", 3)]) != before
    assert read_pipeline(None) == before


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("stages.x.lookahead", "expected an index from 0 to 1, got 'x'"),
        ("stages.2", "expected an index from 0 to 1, got '2'"),
        ("stages.0.kind.deeper", "stages.0.kind holds no further keys"),
        ("stages.0.kind.deeper.still", "stages.0.kind holds no further keys"),
        ("stages.0.lookahed", "stages.0.lookahed: unknown key"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_pipeline(None, changes=[(path, 1)])


@pytest.mark.parametrize("text", ["lookahead", "=4", "stages=[", ""])
def test_a_change_is_a_key_and_a_yaml_value(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_change(text)
