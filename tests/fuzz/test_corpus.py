"""Every input that fuzzing found worth keeping, at every target again: no fuzzer needed."""

from __future__ import annotations

import random

import pytest

from fuzz import corpus
from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_pass(target: str) -> None:
    inputs = corpus.read(target)
    assert inputs
    for one in inputs:
        TARGETS[target](one)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_of_chance_pass(target: str) -> None:
    """A few of other bytes each, for trees in which nobody has fuzzed since the last change."""
    chance = random.Random(target)
    for _ in range(40):
        TARGETS[target](chance.randbytes(chance.choice([3, 30, 300, 3000])))
