"""The engine that ours replaced: a ``DynamicCache`` per session, a forward pass per session, in turn. Runs in a worker.

All sessions are served at once, as a stage serves them, but nothing is batched: what batching is measured by.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel

from .generate import load_model
from .setup import Setup
from .workload import Report, Run, Workload, warm_then_run


@dataclass(slots=True)
class _Session:
    """``fed`` is what its next pass takes: the prompt, then one token after another."""

    fed: tuple[int, ...]
    cache: DynamicCache
    tokens: list[int] = field(default_factory=list)
    first_s: float = 0.0


def round_robin(setup: Setup, workload: Workload, report: Report) -> Run:
    """One pass for each session in turn."""
    model = load_model(setup)
    return warm_then_run(lambda load, tell: _run(model, load, tell), workload, report)


@torch.inference_mode()
def _run(model: PreTrainedModel, workload: Workload, report: Report) -> Run:
    started_s = time.perf_counter()
    sessions = [_Session(prompt, DynamicCache(config=model.config)) for prompt in workload.prompts]
    waiting, num_tokens = deque(sessions), 0
    while waiting:
        session = waiting.popleft()
        token = _next(model, session)
        session.first_s = session.first_s or time.perf_counter() - started_s
        session.tokens.append(token)
        session.fed = (token,)
        num_tokens += 1
        report(num_tokens / (workload.max_tokens * len(sessions)))
        if token not in workload.stop_ids and len(session.tokens) < workload.max_tokens:
            waiting.append(session)
    return Run(
        tuple(tuple(session.tokens) for session in sessions),
        tuple(session.first_s for session in sessions),
        time.perf_counter() - started_s,
    )


def _next(model: PreTrainedModel, session: _Session) -> int:
    ids = torch.tensor([session.fed], device=model.device)
    logits = model(ids, past_key_values=session.cache, use_cache=True, logits_to_keep=1).logits
    return int(logits[0, -1].argmax())
