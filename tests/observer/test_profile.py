"""From steps to a pipeline file: names, curves, agreements, and what is not known."""

from __future__ import annotations

import pytest

from pipespec.observer.measurement import Measurement
from pipespec.observer.profile import profile_document
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.protocol.ids import Position, Rank, SessionId
from pipespec.protocol.messages import Stepped, StepShare


def chain(*stages: dict[str, object]) -> Pipeline:
    return parse_pipeline({"name": "real", "stages": list(stages)}, source="test")


REAL = chain({"kind": "suffix", "lookahead": 16}, {"model": "some/model-7b", "max_batch": 4})


def measured(*steps: tuple[int, float, int, int, int]) -> Measurement:
    """Steps of (rank, ms, fed, candidates, accepted)."""
    measurement = Measurement()
    for rank, ms, fed, candidates, accepted in steps:
        share = StepShare(SessionId(bytes(16)), Position(0), fed, candidates, accepted, accepted + 1)
        measurement.add(Stepped(Rank(rank), "r0", began_us=0, took_us=round(ms * 1000), shares=(share,)))
    return measurement


def test_a_profile_is_a_pipeline_file_with_the_settings_that_were_given() -> None:
    steps = [(0, 0.1, 1, 0, 0), (1, 50.0, 1, 0, 0), (1, 70.0, 4, 3, 3)] * 3
    document = profile_document(REAL, measured(*steps))
    parse_pipeline(document, source="profile")
    draft, target = document["stages"]
    assert (draft["lookahead"], target["max_batch"]) == (16, 4)
    assert "lookahead" not in target
    assert target["emulation"]["latency_ms"] == {1: 50.0, 4: 70.0}
    assert (draft["emulation"]["stands_for"], target["emulation"]["stands_for"]) == ("suffix", "model-7b")


def test_a_draft_that_may_be_silent_is_charged_for_it() -> None:
    steps = [(0, 0.1, 1, 0, 0), (1, 50.0, 1, 0, 0), (1, 70.0, 4, 3, 3)] * 3
    silent = profile_document(REAL, measured(*steps))["stages"][0]["emulation"]["agreement"]
    model = chain({"model": "some/draft"}, {"model": "some/model-7b"})
    never_silent = profile_document(model, measured(*steps))["stages"][0]["emulation"]["agreement"]
    assert (silent, never_silent) == (0.75, 1.0)


@pytest.mark.parametrize(
    "steps", [[(1, 50.0, 1, 0, 0)] * 3, [(0, 1.0, 1, 0, 0)] * 3], ids=["no steps of the draft", "no checks"]
)
def test_what_was_not_seen_is_not_made_up(steps: list[tuple[int, float, int, int, int]]) -> None:
    with pytest.raises(Unavailable):
        profile_document(chain({"model": "a/b"}, {"model": "c/d"}), measured(*steps))
