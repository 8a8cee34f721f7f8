"""Faults of the bus as its users see them, made by ``programs/faulty_broker.py``: loss, doubles, delays, one-way cuts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

from chaos.fire import Fault, Shot
from chaos.fleet import Fleet

Cut = tuple[str, str]
GATEWAY, TARGET, SPARE = "gateway.g", "stage.1.r0.", "stage.1.r1."
"""Both gateways, and the replicas of the target of a chain of two."""
FROM_TARGET: tuple[Cut, ...] = ((TARGET, "gateway."), (TARGET, "fleet."))
TO_TARGET: tuple[Cut, ...] = (("gateway.", TARGET),)
DRAFTS = ("stage.0.r0.", "stage.0.r1.")
EVERYONE = (GATEWAY, TARGET, SPARE, *DRAFTS)


def order(fleet: Fleet, *, cuts: Sequence[Cut] = (), **faults: float) -> None:
    """What the broker does from now on."""
    for broker in fleet.brokers:
        broker.order(json.dumps({"cuts": cuts, **faults}))


def unreliable(**faults: float) -> Fault:
    """Loss, doubles and delays until the streams have ended."""

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        order(shot.fleet, cuts=(), **faults)
        yield
        order(shot.fleet)

    return fault


def deaf(*cuts: Cut) -> Fault:
    """Nothing passes these ways until the streams have ended."""

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        order(shot.fleet, cuts=cuts)
        yield
        order(shot.fleet)

    return fault


@asynccontextmanager
async def links_stop_one_by_one(shot: Shot) -> AsyncIterator[None]:
    """Until everyone is cut off; then they heal in another order (the "swizzle-clog" of FoundationDB's tests)."""
    random = Random(shot.streams[0].prompt)
    stopping, healing = list(EVERYONE), list(EVERYONE)
    random.shuffle(stopping)
    random.shuffle(healing)
    for count in range(1, len(stopping) + 1):
        order(shot.fleet, cuts=[(sender, "") for sender in stopping[:count]])
        await asyncio.sleep(0.2)
    for count in range(1, len(healing) + 1):
        order(shot.fleet, cuts=[(sender, "") for sender in healing[count:]])
        if count < len(healing):
            await asyncio.sleep(0.2)
    shot.healed_s = time.monotonic()
    yield


@asynccontextmanager
async def all_but_one_target_flap(shot: Shot) -> AsyncIterator[None]:
    """Drafts and the other target come and go all the time; what counts is the longest pause."""
    flapping = asyncio.create_task(_flap(shot.fleet, shot.streams[0].prompt))
    yield
    flapping.cancel()
    await asyncio.gather(flapping, return_exceptions=True)
    order(shot.fleet)


async def _flap(fleet: Fleet, seed: str) -> None:
    random = Random(seed)
    while True:
        down = [name for name in (TARGET, *DRAFTS) if random.random() < 0.5]
        order(fleet, cuts=[(sender, "") for sender in down])
        await asyncio.sleep(random.uniform(0.1, 0.9))
