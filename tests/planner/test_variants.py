"""Pipelines made of others: what a profile brings, and what stays the pipeline's own."""

from __future__ import annotations

import pytest

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import StageKind, parse_pipeline
from pipespec.planner.variants import profiled
from planner.chains import pipeline, stage

CHAIN = parse_pipeline(
    {"stages": [{"kind": "suffix", "lookahead": 5}, {"model": "org/big", "max_sessions": 7}]}, source="test"
)
PROFILE = pipeline(stage({1: 2.0}, 0.6, lookahead=9), stage({1: 50.0, 4: 60.0}))


def test_a_profile_brings_times_and_agreements_and_nothing_else() -> None:
    draft, target = profiled(CHAIN, PROFILE).stages
    assert (draft.kind, target.kind) == (StageKind.EMULATED, StageKind.EMULATED)
    assert (draft.lookahead, target.max_sessions, target.model) == (5, 7, None)
    assert draft.emulation == PROFILE.stages[0].emulation
    assert target.emulation == PROFILE.stages[1].emulation


def test_a_profile_of_another_chain_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 stages, the pipeline 'pipespec' has 2"):
        profiled(CHAIN, pipeline(stage({1: 50.0})))


def test_a_file_that_is_no_profile_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"stages\[0\] is of kind 'suffix'.*pipespec profile"):
        profiled(CHAIN, CHAIN)
