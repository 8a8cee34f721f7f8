"""Keeps the standard health service in step with the backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from grpc_health.v1 import health, health_pb2

_LOOK_EVERY_S = 0.2


class HealthServicer(Protocol):
    """The library's asynchronous servicer, as far as we use it."""

    async def set(self, service: str, status: int) -> None:
        """Set the status of ``service`` and tell whoever watches it."""


def new_servicer() -> HealthServicer:
    """A servicer that knows no service yet."""
    return cast("HealthServicer", health.aio.HealthServicer())  # type: ignore[attr-defined]  # unknown to the stubs


async def follow_readiness(
    servicer: HealthServicer, *, is_ready: Callable[[], bool], services: tuple[str, ...]
) -> None:
    """Set the status of ``services`` whenever readiness changes; runs until cancelled."""
    known: bool | None = None
    while True:
        ready = is_ready()
        if ready != known:
            known = ready
            await set_status(servicer, ready=ready, services=services)
        await asyncio.sleep(_LOOK_EVERY_S)


async def set_status(servicer: HealthServicer, *, ready: bool, services: tuple[str, ...]) -> None:
    """Say ``SERVING`` or ``NOT_SERVING`` for ``services``."""
    serving = health_pb2.HealthCheckResponse.SERVING
    status = serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in services:
        await servicer.set(service, status)
