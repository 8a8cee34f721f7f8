"""The gate on an event loop: who waits is woken once, with room or with the reason, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from pipespec.gateway.gate import Gate, Limits, Permit, Pool
from pipespec.ops.errors import Overloaded, RequestError, Unavailable


class Pipeline:
    """What a gate asks, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pool: Pool | None = Pool(num_open=0, room=1)
        limits = Limits(sessions=1, tokens=100, num_bytes=1000, waiting=1, patience_s=1.0)
        self.gate = Gate(limits, pool=lambda: self.pool, clock=lambda: self.now)


@pytest.fixture
async def pipeline() -> Pipeline:
    return Pipeline()


async def waiting(pipeline: Pipeline) -> tuple[Permit, Permit, asyncio.Task[None]]:
    """A permit that holds the only session, and one that waits for it."""
    first, second = (pipeline.gate.enter(num_bytes=10) for _ in range(2))
    await first.admitted(sessions=1, tokens=10)
    task = asyncio.create_task(second.admitted(sessions=1, tokens=10))
    await asyncio.sleep(0)
    assert not task.done()
    return first, second, task


async def test_who_leaves_lets_the_next_one_in(pipeline: Pipeline) -> None:
    first, _, task = await waiting(pipeline)
    first.leave()
    await task


async def test_waiting_too_long_is_told_and_counted(pipeline: Pipeline) -> None:
    _, second, task = await waiting(pipeline)
    pipeline.now = 1.5
    pipeline.gate.turn()
    with pytest.raises(Overloaded) as refusal:
        await task
    assert refusal.value.code == "queue_timeout"
    assert pipeline.gate.num_refused == 1
    second.leave()


async def test_waiting_too_long_for_a_target_that_is_gone_is_not_called_overload(pipeline: Pipeline) -> None:
    _, _, task = await waiting(pipeline)
    pipeline.now, pipeline.pool = 1.5, None
    pipeline.gate.turn()
    with pytest.raises(Unavailable) as refusal:
        await task
    assert refusal.value.code == "no_target_available"


async def test_without_a_target_nobody_enters(pipeline: Pipeline) -> None:
    pipeline.pool = None
    with pytest.raises(Unavailable) as refusal:
        pipeline.gate.enter(num_bytes=1)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("no_target_available", 1.0)


async def test_who_gives_up_waiting_is_forgotten(pipeline: Pipeline) -> None:
    first, second, task = await waiting(pipeline)
    task.cancel()
    await asyncio.wait({task})
    second.leave()
    first.leave()
    assert pipeline.gate.ledger.num_inside == 0
    await pipeline.gate.empty()


async def test_a_gate_that_closes_sends_everyone_away(pipeline: Pipeline) -> None:
    _, _, task = await waiting(pipeline)
    pipeline.gate.close(lambda: RequestError("closed"))
    with pytest.raises(RequestError, match="closed"):
        await task
    with pytest.raises(RequestError, match="closed"):
        pipeline.gate.enter(num_bytes=1)


async def test_it_is_empty_when_the_last_has_left(pipeline: Pipeline) -> None:
    permit = pipeline.gate.enter(num_bytes=1)
    empty = asyncio.create_task(pipeline.gate.empty())
    await asyncio.sleep(0)
    assert not empty.done()
    permit.leave()
    permit.leave()
    await empty
