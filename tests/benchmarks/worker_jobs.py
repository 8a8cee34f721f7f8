"""Jobs for a real worker process."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.comparison.setup import Setup
from benchmarks.comparison.workload import Report


def answer(setup: Setup, task: Any, report: Report, *, extra: int) -> Any:
    """What it was given, and its process."""
    report(0.5)
    return task, extra, setup.threads, os.getpid()


def swell(setup: Setup, task: int, report: Report) -> None:
    """Hold ``task`` bytes for long enough to be seen."""
    held = b"x" * task
    time.sleep(0.7)
    del held


def raise_error(setup: Setup, task: Any, report: Report) -> None:
    """Fail with a word."""
    raise ValueError(task)


def die(setup: Setup, task: Any, report: Report) -> None:
    """Fail without a word."""
    os._exit(3)


def hang(setup: Setup, task: Any, report: Report) -> None:
    """Never come to an end."""
    time.sleep(1000)
