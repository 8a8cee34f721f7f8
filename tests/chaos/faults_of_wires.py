"""Packets lost for good on the wire between one process and the broker (``hub.py``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.fire import Fault, Shot
from chaos.hub import Hub, Way


def cut(hub: Hub, name: str, *ways: Way, for_s: float | None = None) -> Fault:
    """No packet passes these ways, for a time or until the streams have ended.

    With a time, what counts is from the heal to the next token.
    """

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        hub.cut(name, *ways)
        if for_s is not None:
            await asyncio.sleep(for_s)
            hub.heal()
            shot.healed_s = time.monotonic()
        yield
        hub.heal()

    return fault
