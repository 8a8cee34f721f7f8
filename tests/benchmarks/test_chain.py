"""The chain contender starts real services and says what ``generate`` says."""

from __future__ import annotations

import pytest
from benchmarks.comparison import chain, generate
from benchmarks.comparison.setup import Setup
from benchmarks.comparison.workload import Workload, silent

from pipespec.cli import progress


@pytest.mark.e2e
def test_real_services_say_the_same_and_count_what_they_checked(
    setup: Setup, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.stderr, "quiet", False)  # set by the contender: put back afterwards
    run = chain.served(setup, workload, silent, speculate=True)
    assert run.outputs == generate.one_after_another(setup, workload, silent).outputs
    assert all(0 < first_s <= run.elapsed_s for first_s in run.first_token_s)
    assert 0 <= run.notes["accepted"] <= run.notes["checked"]
    assert run.notes["tokens_per_target_step"] >= 1.0
