"""Which steps run in captured shapes, and what happens where one cannot be captured. The CPU stands in for a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.paging import runner_of
from engine.tiny import tiny_model
from pipespec.engine import captured
from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.captured import MAX_ROWS, Body, Capture, CapturedSteps, uncaptured
from pipespec.protocol.ids import TokenId

BLOCK_SIZE = 16
NUM_BLOCKS = 64


def steps_with(capture: Capture) -> CapturedSteps:
    runner = runner_of(tiny_model(seed=1), packed=False)
    runner.resize((NUM_BLOCKS + 1) * BLOCK_SIZE)
    builder = BatchBuilder(device=runner.model.device, block_size=BLOCK_SIZE)
    return CapturedSteps(runner, builder, capture)


def shares(num_sessions: int, *, num_tokens: int) -> list[Share]:
    """Sessions of ``num_tokens``, all of them fed."""
    per_session = -(-num_tokens // BLOCK_SIZE)
    tables = [range(1 + index * per_session, 1 + (index + 1) * per_session) for index in range(num_sessions)]
    fed = [TokenId(token % 50) for token in range(num_tokens)]
    return [Share(fed, 0, table, range(num_tokens - 1, num_tokens)) for table in tables]


def replays(steps: CapturedSteps, step: Sequence[Share]) -> bool:
    """Whether the step ran in a captured shape; in any case it says what a ragged batch says."""
    before = steps.num_replayed
    with torch.inference_mode():
        said = steps.forward(step)
        ragged = steps_with(refuse).forward(step)
    torch.testing.assert_close(said, ragged, rtol=1e-4, atol=1e-4)
    return steps.num_replayed > before


def refuse(_body: Body) -> Body:
    raise RuntimeError("it asks the device for a value")


class OutOfMemoryAbove:
    """Captures bodies until ``num_left`` are, and then finds no memory."""

    def __init__(self, num_left: int) -> None:
        self.num_left = num_left
        self.num_tried = 0

    def __call__(self, body: Body) -> Body:
        self.num_tried += 1
        if self.num_tried > self.num_left:
            raise torch.OutOfMemoryError("no memory for this shape")
        return body


def test_short_steps_are_captured_and_prefill_is_not():
    steps = steps_with(uncaptured)
    assert replays(steps, shares(2, num_tokens=MAX_ROWS))
    assert not replays(steps, shares(2, num_tokens=MAX_ROWS + 1))


def test_shapes_that_would_gather_too_many_keys_are_not_captured(monkeypatch):
    monkeypatch.setattr(captured, "MAX_KEYS", 2 * captured.MIN_KEYS)
    steps = steps_with(uncaptured)
    assert not replays(steps, shares(3, num_tokens=4))
    assert replays(steps, shares(2, num_tokens=4))


def test_a_shape_without_memory_is_tried_once_and_others_go_on():
    capture = OutOfMemoryAbove(1)
    steps = steps_with(capture)
    assert replays(steps, shares(2, num_tokens=4))
    assert not replays(steps, shares(4, num_tokens=4))
    assert not replays(steps, shares(4, num_tokens=4))
    assert replays(steps, shares(2, num_tokens=4))
    assert capture.num_tried == 2


def test_a_family_that_cannot_be_captured_is_not_tried_again():
    tried = []

    def tried_and_refused(body: Body) -> Body:
        tried.append(body)
        return refuse(body)

    steps = steps_with(tried_and_refused)
    assert not replays(steps, shares(2, num_tokens=4))
    assert not replays(steps, shares(1, num_tokens=4))
    assert len(tried) == 1
