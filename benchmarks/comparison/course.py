"""The course of a comparison: the reference speaks, all others are checked against it, then all are timed.

Contenders take turns within a cell (kind of prompt, number of sessions), each in a fresh process, so that what else the
machine does falls on all alike and no cache outlives a run. What is timed is compared too, to the last token.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, product
from typing import Any, Protocol

from .contender import REFERENCE, Contender
from .equality import Candidates, find_forks
from .memory import MemoryRow
from .plan import Plan
from .prompt import Kind, Prompt
from .result import Cell, Entry, Status
from .setup import Setup
from .worker import Done, Job, JobFailed, run_job
from .workload import Run, Workload

Watch = Callable[[str], AbstractContextManager[Callable[[float], None]]]
"""Shows one job while its block runs: takes its title, gives what is told its progress."""

CellKey = tuple[Kind, int]


class RunJob(Protocol):
    """Runs a job to its end; see ``worker.run_job``."""

    def __call__(self, setup: Setup, job: Job, *, on_progress: Callable[[float], None]) -> Done:
        """Run it."""


class Course:
    """Runs a plan. Use ``entries``, ``memory`` and ``memory_reason`` once ``run`` is through.

    Args:
        plan: what to do.
        setup: what all contenders get alike.
        watch: shows the jobs.
        run_job: runs them.
    """

    def __init__(self, plan: Plan, setup: Setup, *, watch: Watch, run_job: RunJob = run_job) -> None:
        self.entries = {one.name: _entry(one, setup) for one in plan.contenders}
        self.memory: MemoryRow | None = None
        self.memory_reason = ""
        self._plan = plan
        self._setup = setup
        self._watch = watch
        self._run_job = run_job
        self._expected: dict[tuple[int, ...], tuple[int, ...]] = {}

    def run(self) -> None:
        """All of it.

        Raises:
            JobFailed: the reference cannot be run.
        """
        self._hear_reference()
        for contender in self._running():
            if contender is not REFERENCE and self._plan.check_prompts:
                self._check(contender)
        runs: defaultdict[tuple[str, CellKey], list[Done]] = defaultdict(list)
        for _, kind, sessions in product(range(self._plan.rounds), self._plan.prompts, self._plan.sessions):
            for contender in self._running():
                if contender.serves(sessions):
                    self._measure(contender, kind, sessions, runs[contender.name, (kind, sessions)])
        for (name, (kind, sessions)), done in runs.items():
            if done:
                self.entries[name].cells.append(self._cell(name, kind, sessions, done))
        self._measure_memory()
        self._weigh_forks()

    def _running(self) -> Iterator[Contender]:
        """Contenders that have not failed so far."""
        for contender in self._plan.contenders:
            if self.entries[contender.name].status in (Status.EQUAL, Status.DIFFERS):
                yield contender

    def _job(self, title: str, entry: str, task: Any, options: Mapping[str, Any] | None = None) -> Done:
        job = Job(f"{__package__}.{entry}", task, options or {})
        with self._watch(title) as on_progress:
            return self._run_job(self._setup, job, on_progress=on_progress)

    def _hear_reference(self) -> None:
        prompts = list(chain.from_iterable(self._plan.prompts.values()))
        workload = self._plan.workload(prompts, max_tokens=self._plan.max_tokens)
        done = self._job(f"reference: {REFERENCE.title}", REFERENCE.entry, workload)
        self._expected = dict(zip(workload.prompts, done.result.outputs, strict=True))

    def _check(self, contender: Contender) -> None:
        plan = self._plan
        prompts = [one for all_prompts in plan.prompts.values() for one in all_prompts[: plan.check_prompts]]
        workload = plan.workload(prompts, max_tokens=plan.check_tokens)
        done = self._try(contender, f"check: {contender.title}, {contender.serving}", workload)
        if done is not None:
            self._compare(contender.name, prompts, done.result, max_tokens=plan.check_tokens)

    def _measure(self, contender: Contender, kind: Kind, sessions: int, into: list[Done]) -> None:
        prompts = self._plan.prompts[kind][:sessions]
        workload = self._plan.workload(prompts, max_tokens=self._plan.max_tokens)
        title = f"{kind}, {sessions} at once: {contender.title}, {contender.serving}"
        done = self._try(contender, title, workload)
        if done is not None:
            into.append(done)

    def _try(self, contender: Contender, title: str, workload: Workload) -> Done | None:
        try:
            return self._job(title, contender.entry, workload, contender.options)
        except JobFailed as error:
            entry = self.entries[contender.name]
            entry.status, entry.reason = Status.FAILED, str(error)
            return None

    def _compare(self, name: str, prompts: Sequence[Prompt], run: Run, *, max_tokens: int) -> int:
        """Note the forks of a run; how many there were."""
        expected = [self._expected[prompt.ids][:max_tokens] for prompt in prompts]
        forks = find_forks(name, prompts, expected=expected, outputs=run.outputs)
        entry = self.entries[name]
        entry.num_compared += len(prompts)
        entry.forks += forks
        if forks and entry.status is Status.EQUAL:
            entry.status = Status.DIFFERS
        return len(forks)

    def _cell(self, name: str, kind: Kind, sessions: int, done: Sequence[Done]) -> Cell:
        """The cell of these rounds, all of which are compared."""
        prompts = self._plan.prompts[kind][:sessions]
        different = [
            self._compare(name, prompts, one.result, max_tokens=self._plan.max_tokens) for one in done
        ]
        speeds = [one.result.tokens_per_s for one in done]
        median = speeds.index(statistics.median_low(speeds))
        run: Run = done[median].result
        return Cell(
            kind=kind,
            sessions=sessions,
            tokens=run.num_tokens,
            elapsed_s=run.elapsed_s,
            tokens_per_s=run.tokens_per_s,
            first_token_s=run.median_first_token_s,
            peak_rss_mib=done[median].peak_rss_mib,
            num_different=different[median],
            notes=run.notes,
        )

    def _measure_memory(self) -> None:
        title = f"memory: {self._plan.churn.num_sessions} sessions come and go"
        try:
            self.memory = self._job(title, "churn:come_and_go", self._plan.churn).result
        except JobFailed as error:
            self.memory_reason = str(error)

    def _weigh_forks(self) -> None:
        """Ask the model how far apart the two words of every fork are."""
        ids = {prompt.name: prompt.ids for prompt in chain.from_iterable(self._plan.prompts.values())}
        asked: list[tuple[Entry, int, Candidates]] = []
        for entry in self.entries.values():
            for index, fork in enumerate(entry.forks):
                if fork.expected is not None and fork.got is not None:
                    prompt = ids[fork.prompt]
                    context = (*prompt, *self._expected[prompt][: fork.position])
                    asked.append((entry, index, Candidates(context, fork.expected, fork.got)))
        if not asked:
            return
        distinct = list(dict.fromkeys(candidates for _, _, candidates in asked))
        try:
            gaps = self._job("logits where outputs part", "gap:logit_gaps", distinct).result
        except JobFailed:
            return  # the forks stay, without gaps
        gap_of = dict(zip(distinct, gaps, strict=True))
        for entry, index, candidates in asked:
            entry.forks[index] = replace(entry.forks[index], gap=gap_of[candidates])


def _entry(contender: Contender, setup: Setup) -> Entry:
    entry = Entry(contender.name, contender.title, contender.serving, contender.is_ours)
    if contender.needs_assistant and setup.assistant is None:
        entry.status = Status.SKIPPED
        entry.reason = "no smaller embedded model; give one with --assistant"
    return entry
