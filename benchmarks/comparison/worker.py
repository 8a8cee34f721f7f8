"""A fresh process for each job, watched from outside: what it says, what it weighs, whether it lives.

A job is a function named by text, so that its module (and with it torch) is imported in the worker alone. The memory
of a job is that of the worker and all of its children, from its start to its end, and so of nobody else.
"""

from __future__ import annotations

import multiprocessing
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

from .setup import Setup

POLL_S = 0.25
TIMEOUT_S = 3600.0
"""No job may take longer."""
REPORT_EVERY_S = 0.25
END_GRACE_S = 10.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """A call ``entry(setup, task, report, **options)`` in a worker.

    Attributes:
        entry: ``package.module:function``.
        task: what to do; can be pickled.
        options: further keywords.
    """

    entry: str
    task: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """A job's result, and the most memory that its processes held at a time."""

    result: Any
    peak_rss_mib: float


class JobFailed(Exception):
    """A job raised, died or took too long; the message is its last word."""


def run_job(
    setup: Setup, job: Job, *, on_progress: Callable[[float], None], timeout_s: float = TIMEOUT_S
) -> Done:
    """Run one job in a new process; no process is left afterwards.

    Raises:
        JobFailed: it raised, it died, or it took longer than ``timeout_s``.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setup, job), name=job.entry)
    process.start()
    theirs.close()
    try:
        return _watch(process.pid or 0, ours, on_progress=on_progress, until_s=time.monotonic() + timeout_s)
    finally:
        ours.close()
        process.join(END_GRACE_S)
        if process.is_alive():
            process.terminate()
            process.join()


def _watch(pid: int, pipe: Connection, *, on_progress: Callable[[float], None], until_s: float) -> Done:
    peak = 0
    while time.monotonic() < until_s:
        peak = max(peak, tree_rss(pid))
        if not pipe.poll(POLL_S):
            continue
        try:
            word, value = pipe.recv()
        except EOFError:
            raise JobFailed("the process died without a word; was it out of memory?") from None
        if word == "failed":
            raise JobFailed(value)
        if word == "done":
            return Done(value, peak / MIB)
        on_progress(value)
    raise JobFailed("it took too long")


def tree_rss(pid: int) -> int:
    """Resident bytes of a process and all that it started; 0 when it is gone. Shared pages count in each."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_rss(process) for process in processes)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _work(pipe: Connection, setup: Setup, job: Job) -> None:
    """The worker's main function."""
    told_s = 0.0

    def report(fraction: float) -> None:
        nonlocal told_s
        now = time.monotonic()
        if now - told_s >= REPORT_EVERY_S:
            told_s = now
            pipe.send(("progress", fraction))

    try:
        function = pkgutil.resolve_name(job.entry)
        pipe.send(("done", function(setup, job.task, report, **job.options)))
    except KeyboardInterrupt:
        pass  # the parent got it too
    except Exception as error:  # noqa: BLE001 - whatever a contender raises is its result
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
