"""A step for which the device has no memory: it is told, nothing of it counts, and the sessions go on as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from engine.paging import paged_engine
from engine.schedule import Script
from engine.test_pressure import VOCAB, scripts_for
from engine.tiny import tiny_model
from pipespec.engine import paged
from pipespec.engine.paged import PagedEngine
from pipespec.ops.errors import OutOfMemory
from pipespec.protocol.sampling import Sampling


class Failing:
    """Calls ``inner``, but fails one time in three."""

    def __init__(self, inner: Callable[..., Any], *, after: bool) -> None:
        self._inner = inner
        self._after = after
        self._random = random.Random(1)
        self.num_failed = 0

    def __call__(self, *arguments: Any) -> Any:
        result = self._inner(*arguments) if self._after else None
        if self._random.random() < 1 / 3:
            self.num_failed += 1
            raise torch.OutOfMemoryError("injected")
        return result if self._after else self._inner(*arguments)


def run_to_the_end(engine: PagedEngine, scripts: Sequence[Script]) -> None:
    order = random.Random(3)
    for script in scripts:
        script.open(engine, Sampling(max_tokens=99))
    while running := [script for script in scripts if not script.is_done]:
        chosen = order.sample(running, order.randint(1, len(running)))
        batch = [script.next_work() for script in chosen]
        try:
            outcomes = engine.step(batch)
        except OutOfMemory:
            for script, work in zip(chosen, batch, strict=True):
                script._num_cached = work.start  # nothing of the step counts
            continue
        for script, work, outcome in zip(chosen, batch, outcomes, strict=True):
            script.on_outcome(work, outcome)


@pytest.mark.parametrize("after", [False, True], ids=["before the pass", "when all is written"])
@pytest.mark.parametrize("place", ["forward", "pick"])
def test_sessions_say_the_same_as_without_it(
    place: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(seed=2)
    engine = paged_engine(model, num_blocks=40, block_size=4, context_len=64)
    scripts = scripts_for(model, num=4, num_prompt=20, num_tokens=16)
    if place == "forward":
        failing = engine._forward = Failing(engine._forward, after=after)
    else:
        failing = Failing(paged.pick, after=after)
        monkeypatch.setattr(paged, "pick", failing)
    run_to_the_end(engine, scripts)
    assert failing.num_failed > 5
    for script in scripts:
        assert script.picked[:16] == list(script.reference)
        assert max(script.picked) < VOCAB
