"""A worker is a process of its own; however it ends, that is said and nothing is left."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest
from benchmarks.comparison.setup import Setup
from benchmarks.comparison.worker import Done, Job, JobFailed, run_job


def run(setup: Setup, entry: str, task: Any = None, *, timeout_s: float = 60.0, **options: Any) -> Done:
    return run_job(
        setup, Job(f"benchmarks.worker_jobs:{entry}", task, options), on_progress=float, timeout_s=timeout_s
    )


def test_a_result_comes_from_another_process(setup: Setup) -> None:
    done = run(setup, "answer", (1, 2), extra=3)
    assert done.result[:3] == ((1, 2), 3, setup.threads)
    assert done.result[3] != os.getpid()


def test_progress_is_told(setup: Setup) -> None:
    told: list[float] = []
    run_job(setup, Job("benchmarks.worker_jobs:answer", None, {"extra": 0}), on_progress=told.append)
    assert told == [0.5]


def test_the_peak_holds_what_a_job_held(setup: Setup) -> None:
    small, large = run(setup, "swell", 0), run(setup, "swell", 200 * 2**20)
    assert large.peak_rss_mib - small.peak_rss_mib > 150


@pytest.mark.parametrize(
    ("entry", "timeout_s", "message"),
    [
        ("raise_error", 60.0, "ValueError: too bad"),
        ("die", 60.0, "died without a word"),
        ("hang", 0.5, "took too long"),
        ("no_such_job", 60.0, "AttributeError"),
    ],
)
def test_a_job_that_fails_says_how_and_leaves_no_process(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, entry: str, timeout_s: float, message: str
) -> None:
    monkeypatch.setattr("benchmarks.comparison.worker.END_GRACE_S", 0.1)
    before = set(psutil.Process().children())
    with pytest.raises(JobFailed, match=message):
        run(setup, entry, "too bad", timeout_s=timeout_s)
    left = set(psutil.Process().children()) - before
    assert not [one for one in left if "resource_tracker" not in " ".join(one.cmdline())]
