"""transformers' ``generate``: each session by itself, or all as one left-padded batch. Runs in a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from pipespec.engine import checkpoint

from .setup import Setup
from .workload import Report, Run, Workload, warm_then_run


class TokenClock(BaseStreamer):
    """Notes when the first new tokens come, and tells of every step.

    Args:
        on_step: told how many steps are done.
    """

    def __init__(self, on_step: Callable[[int], None]) -> None:
        self.first_s = 0.0
        self._on_step = on_step
        self._num_puts = 0

    def put(self, value: torch.Tensor) -> None:
        """Called with the prompt, then with the tokens of each step; ``value`` is not kept."""
        del value
        if self._num_puts == 1:
            self.first_s = time.perf_counter()
        self._on_step(self._num_puts)
        self._num_puts += 1

    def end(self) -> None:
        """Nothing is left to do."""


def load_model(setup: Setup) -> PreTrainedModel:
    """The model, with no generation settings of its own."""
    checkpoint.set_threads(setup.threads)
    model = checkpoint.load_model(setup.folder, device=setup.device, dtype=setup.dtype)
    model.generation_config = GenerationConfig()
    return model


def greedy(workload: Workload, **options: Any) -> GenerationConfig:
    """Settings of greedy decoding until a stop id or the last token; ``options`` are further ones."""
    stop_ids = list(workload.stop_ids)
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=workload.max_tokens,
        eos_token_id=stop_ids or None,
        pad_token_id=stop_ids[0] if stop_ids else 0,
        **options,
    )


def one_after_another(setup: Setup, workload: Workload, report: Report, **options: Any) -> Run:
    """Each session by itself, in order; ``options`` are further generation settings."""
    caller = Caller(load_model(setup), options)
    return warm_then_run(caller.in_turn, workload, report)


def padded_batch(setup: Setup, workload: Workload, report: Report, **options: Any) -> Run:
    """All sessions in one call, padded on the left to the longest prompt."""
    caller = Caller(load_model(setup), options)
    return warm_then_run(caller.together, workload, report)


def assisted(setup: Setup, workload: Workload, report: Report) -> Run:
    """Each session by itself, with a smaller model that guesses."""
    if setup.assistant is None:
        raise ValueError("assisted generation needs the folder of an assistant model")
    assistant = checkpoint.load_model(setup.assistant, device=setup.device, dtype=setup.dtype)
    caller = Caller(load_model(setup), {}, assistant=assistant)
    return warm_then_run(caller.in_turn, workload, report)


class Caller:
    """Calls ``generate`` of one model.

    Args:
        model: the target.
        options: further generation settings.
        assistant: the model that guesses; None for none.
    """

    def __init__(
        self, model: PreTrainedModel, options: Mapping[str, Any], assistant: PreTrainedModel | None = None
    ) -> None:
        self._device = model.device
        self._generate: Any = model.generate  # typed as a tensor
        self._options = options
        self._keywords = {} if assistant is None else {"assistant_model": assistant}

    def in_turn(self, workload: Workload, report: Report) -> Run:
        """One call per session."""
        outputs, first_s = [], []
        started_s = time.perf_counter()
        for number, prompt in enumerate(workload.prompts):
            ids = torch.tensor([prompt], device=self._device)
            clock = TokenClock(lambda _steps: None)
            rows = self._new_tokens(ids, torch.ones_like(ids), workload, clock)
            outputs.append(tuple(rows[0].tolist()))
            first_s.append(clock.first_s - started_s)
            report((number + 1) / len(workload.prompts))
        return Run(tuple(outputs), tuple(first_s), time.perf_counter() - started_s)

    def together(self, workload: Workload, report: Report) -> Run:
        """One call for all."""
        started_s = time.perf_counter()
        ids, mask = left_padded(workload.prompts, self._device)
        clock = TokenClock(lambda steps: report(steps / workload.max_tokens))
        rows = self._new_tokens(ids, mask, workload, clock).tolist()
        elapsed_s = time.perf_counter() - started_s
        outputs = tuple(until_stop(row, workload.stop_ids) for row in rows)
        return Run(outputs, (clock.first_s - started_s,) * len(outputs), elapsed_s)

    def _new_tokens(
        self, ids: torch.Tensor, mask: torch.Tensor, workload: Workload, clock: TokenClock
    ) -> torch.Tensor:
        """``[N, T]`` for prompts ``ids [N, L]``."""
        config = greedy(workload, **self._options)
        output: torch.Tensor = self._generate(
            ids, attention_mask=mask, generation_config=config, streamer=clock, **self._keywords
        )
        return output[:, ids.shape[1] :]


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both ``[N, L]``, L being the longest prompt's length."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def until_stop(row: Sequence[int], stop_ids: Sequence[int]) -> tuple[int, ...]:
    """The row up to its first stop id and with it; what follows is padding."""
    end = next((index + 1 for index, token in enumerate(row) if token in stop_ids), len(row))
    return tuple(row[:end])
