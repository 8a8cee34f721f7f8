"""Blocking calls into an event loop, and what an interrupt leaves of them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pipespec.client.loop_thread import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.stop()


async def answer() -> int:
    return 42


async def fail() -> None:
    raise ZeroDivisionError


def test_a_result_comes_back(loop: LoopThread) -> None:
    assert loop.run(answer()) == 42


def test_an_error_comes_back(loop: LoopThread) -> None:
    with pytest.raises(ZeroDivisionError):
        loop.run(fail())


def test_interrupted_work_has_ended_when_the_interrupt_goes_on(loop: LoopThread) -> None:
    """Else closing a stream after Ctrl-C meets the stream still running."""
    said: list[str] = []

    async def work() -> None:
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            said.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        loop.run(work())
    assert said == ["cleaned up"]
