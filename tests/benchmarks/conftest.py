"""A tiny random model as a folder, prompts for it, and workers without processes."""

from __future__ import annotations

import pkgutil
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from benchmarks.comparison.prompt import Kind, Prompt
from benchmarks.comparison.setup import Setup
from benchmarks.comparison.worker import Done, Job, JobFailed
from benchmarks.comparison.workload import Workload, silent

from engine.tiny import BYTE_VOCAB, EOS_ID, save_tiny_model

MAX_TOKENS = 12


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = save_tiny_model(tmp_path_factory.mktemp("bench") / "model", seed=5)
    return Setup(folder=folder, assistant=None, device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="session")
def prompts() -> dict[Kind, tuple[Prompt, ...]]:
    source = random.Random(3)

    def some(kind: Kind, length: int) -> tuple[Prompt, ...]:
        return tuple(
            Prompt(f"{kind}/{n}", kind, tuple(source.randrange(3, BYTE_VOCAB) for _ in range(length + 7 * n)))
            for n in range(3)
        )

    return {Kind.CODE: some(Kind.CODE, 5), Kind.SUMMARY: some(Kind.SUMMARY, 40)}


@pytest.fixture(scope="session")
def workload(prompts: dict[Kind, tuple[Prompt, ...]]) -> Workload:
    ids = tuple(prompt.ids for of_kind in prompts.values() for prompt in of_kind)
    return Workload(ids, MAX_TOKENS, stop_ids=(EOS_ID,))


def run_here(setup: Setup, job: Job, *, on_progress: Callable[[float], None]) -> Done:
    """``run_job`` in this process."""
    try:
        return Done(pkgutil.resolve_name(job.entry)(setup, job.task, on_progress, **job.options), 1.0)
    except Exception as error:
        raise JobFailed(f"{type(error).__name__}: {error}") from error


@contextmanager
def unwatched(title: str) -> Iterator[Callable[[float], None]]:
    yield silent
