"""transformers' own continuous batching. Runs in a worker.

Its cache is sized for the workload: left to itself it takes and clears more than half of the machine's memory.
"""

from __future__ import annotations

import time
from typing import Any

from transformers import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from .generate import greedy, load_model
from .setup import Setup
from .workload import Report, Run, Workload, warm_then_run

PAGE_SIZE = 256
"""Tokens per block, its default."""
STEP_TOKENS = 512
"""Tokens of all sessions in one pass; the default of our engine."""
POLL_S = 1.0


def batched(setup: Setup, workload: Workload, report: Report) -> Run:
    """All sessions through one scheduler."""
    num_sessions = len(workload.prompts)
    config = ContinuousBatchingConfig(
        page_size=PAGE_SIZE,
        num_blocks=num_sessions * (workload.context_len // PAGE_SIZE + 1) + 1,
        max_batch_tokens=STEP_TOKENS,
        max_requests_per_batch=num_sessions,
    )
    model: Any = load_model(setup)  # its mixins are typed as tensors
    with model.continuous_batching_context_manager(
        generation_config=greedy(workload), continuous_batching_config=config
    ) as scheduler:
        return warm_then_run(lambda load, tell: _run(scheduler, load, tell), workload, report)


def _run(scheduler: ContinuousBatchingManager, workload: Workload, report: Report) -> Run:
    started_s = time.perf_counter()
    names = scheduler.add_requests(
        [list(prompt) for prompt in workload.prompts],
        max_new_tokens=workload.max_tokens,
        record_timestamps=True,
    )
    finished: dict[str, GenerationOutput] = {}
    while len(finished) < len(names):
        output = scheduler.get_result(timeout=POLL_S)
        if output is None:
            if not scheduler.is_running():
                raise RuntimeError(f"its thread ended: {scheduler.background_thread_status.fatal_error!r}")
        elif output.error is not None:
            raise RuntimeError(output.error)
        elif output.is_finished():
            finished[output.request_id] = output
            report(len(finished) / len(names))
    elapsed_s = time.perf_counter() - started_s
    outputs = [finished[name] for name in names]
    return Run(
        tuple(tuple(output.generated_tokens) for output in outputs),
        tuple((output.timestamps or [started_s + elapsed_s])[0] - started_s for output in outputs),
        elapsed_s,
    )
