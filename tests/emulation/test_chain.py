"""Settings become the language of the whole chain and a curve per stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipespec.emulation import vocabulary
from pipespec.emulation.chain import curve_of, language_of
from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageSettings, load_pipeline

PIPELINE = Pipeline.model_validate(
    {
        "stages": [
            {"kind": "emulated", "emulation": {"latency_ms": {8: 3, 1: 2}, "agreement": 0.7}},
            {"kind": "emulated", "emulation": {"latency_ms": {1: 4}, "agreement": 0.9}},
            {"kind": "emulated", "emulation": {"latency_ms": {1: 20}, "session_ms": 0.5, "seed": 11}},
        ]
    }
)


def test_the_targets_seed_and_all_agreements_make_the_language() -> None:
    assert language_of(PIPELINE.stages) == vocabulary.language(11, (0.7, 0.9))
    assert language_of(PIPELINE.stages[1:]) == vocabulary.language(11, (0.9,))
    assert language_of(PIPELINE.stages[2:]) == vocabulary.language(11, ())


def test_points_may_come_in_any_order() -> None:
    curves = [curve_of(stage) for stage in PIPELINE.stages]
    assert curves == [
        LatencyCurve(((1, 2.0), (8, 3.0))),
        LatencyCurve(((1, 4.0),)),
        LatencyCurve(((1, 20.0),), session_ms=0.5),
    ]


def test_a_real_stage_has_neither() -> None:
    with pytest.raises(SettingsError, match="expected a stage of kind 'emulated', got one of kind 'suffix'"):
        curve_of(StageSettings.model_validate({"kind": "suffix"}))


def test_the_papers_chain_has_the_recorded_times() -> None:
    stages = load_pipeline(Path(__file__).parents[2] / "examples" / "paper-1b-8b-70b.yaml").stages
    small, middle, target = (curve_of(stage) for stage in stages)
    assert small.ms(1) == 11.7
    assert [middle.ms(n) for n in (1, 5)] == [22.8, 27.8]
    assert [target.ms(n) for n in (1, 2, 35)] == [120.5, 428, 439]
    assert language_of(stages).agreements == (0.945, 0.96)
