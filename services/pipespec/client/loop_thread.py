"""An event loop in a thread of its own: how blocking code uses the asynchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_GRACE_S = 5.0
"""For cancelled work to tell its peer."""


class LoopThread:
    """Runs coroutines for other threads. A daemon: a forgotten ``stop`` does not keep the process alive."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipespec-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of ``work``; when the waiting thread is interrupted, ``work`` is cancelled and has ended."""
        ended = threading.Event()

        async def watched() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():  # else it is `work` that raised
                ended.wait(
                    CANCEL_GRACE_S
                )  # what follows, such as closing its stream, must not meet it running
            raise

    def stop(self) -> None:
        """End the loop and the thread; asynchronous generators are closed first. Call it once."""
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
