"""Milliseconds per step, for every kind of launch and every number of tokens and sessions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from benchmarks.device_steps import engines
from benchmarks.device_steps.engines import Launch
from benchmarks.device_steps.floor import bytes_of_token, bytes_of_weights, median_s
from transformers import PreTrainedModel

from pipespec.engine.paged import PagedEngine

WIDTHS = (1, 2, 4, 8, 16)
_BATCHES = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class StepTime:
    """A measured kind of step.

    Attributes:
        launch: how its kernels were launched; or what else ran, such as ``generate``.
        num_sessions: in the step.
        num_tokens: per session.
        context: tokens of each session in the cache.
        ms: median milliseconds, from the call to the chosen tokens on the host.
        floor_ms: at the measured bandwidth.
    """

    launch: str
    num_sessions: int
    num_tokens: int
    context: int
    ms: float
    floor_ms: float


def time_steps(model: PreTrainedModel, *, context: int, bytes_per_s: float) -> list[StepTime]:
    """All steps over one model; its attention goes through our pool afterwards."""
    times = []
    for launch in Launch:
        engine = engines.make_engine(model, launch, num_tokens=max(_BATCHES) * (context + 2 * max(WIDTHS)))
        for num_sessions in _BATCHES:
            times += _time_batch(
                engine, launch, model, num_sessions, context=context, bytes_per_s=bytes_per_s
            )
        del engine
        engines.free(model.device)
    return times


def _time_batch(
    engine: PagedEngine,
    launch: Launch,
    model: PreTrainedModel,
    num_sessions: int,
    *,
    context: int,
    bytes_per_s: float,
) -> list[StepTime]:
    texts = engines.read(engine, num_sessions=num_sessions, num_tokens=context)
    weights, times = bytes_of_weights(model), []
    for width in WIDTHS if num_sessions == 1 else (1, 8):
        run = partial(engines.step, engine, texts, num_tokens=width)
        ms = 1e3 * median_s(run, device=model.device)
        read = weights + num_sessions * (context + width) * bytes_of_token(model)
        times.append(StepTime(launch.value, num_sessions, width, context, ms, 1e3 * read / bytes_per_s))
    engines.close(engine, texts)
    return times


@torch.inference_mode()
def time_generate(model: PreTrainedModel, *, context: int, bytes_per_s: float) -> list[StepTime]:
    """``generate`` of transformers, per token after the first, with both kinds of cache."""
    ids = torch.randint(0, model.config.vocab_size, (1, context), device=model.device)
    floor_ms = 1e3 * (bytes_of_weights(model) + context * bytes_of_token(model)) / bytes_per_s
    generate: Any = model.generate  # typed as a tensor
    times = []
    for cache in ("dynamic", "static"):
        run = partial(
            generate,
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            cache_implementation=None if cache == "dynamic" else cache,
            pad_token_id=0,
        )
        few, many = (
            median_s(
                partial(run, max_new_tokens=number, min_new_tokens=number), device=model.device, repeats=3
            )
            for number in (4, 36)
        )
        times.append(StepTime(f"generate, {cache} cache", 1, 1, context, 1e3 * (many - few) / 32, floor_ms))
    return times
