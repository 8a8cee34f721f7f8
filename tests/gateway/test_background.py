"""A server whose background task ends says so, and why."""

from __future__ import annotations

import asyncio

import pytest

from pipespec.gateway.background import first_end
from pipespec.ops.errors import InvariantBroken


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ZeroDivisionError("why")


async def return_early() -> None:
    pass


async def test_the_error_of_the_first_task_that_ends_is_raised() -> None:
    running = asyncio.create_task(forever())
    with pytest.raises(ZeroDivisionError, match="why"):
        await first_end(running, asyncio.create_task(fail()))
    assert not running.done()
    running.cancel()


async def test_an_end_without_an_error_is_a_broken_invariant() -> None:
    with pytest.raises(InvariantBroken, match="'early'"):
        await first_end(asyncio.create_task(return_early(), name="early"))


async def test_a_cancelled_task_does_not_look_like_a_cancelled_waiter() -> None:
    task = asyncio.create_task(forever())
    task.cancel()
    with pytest.raises(InvariantBroken):
        await first_end(task)
