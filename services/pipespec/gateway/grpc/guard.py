"""Lets nobody in by gRPC without a key, where the gateway has keys.

Asked before the request is read. Only the health check is open, for probes; watching health needs a key, because a watch
stays and takes the place of a call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from grpc_health.v1 import health

from pipespec.gateway.access import KeyRing, Principal
from pipespec.gateway.grpc.status import status_of, trailers_of
from pipespec.ops.errors import RequestError

OPEN_METHODS = (f"/{health.SERVICE_NAME}/Check",)

_principal: ContextVar[Principal | None] = ContextVar("principal", default=None)
_Handler = Any
"""``grpc.RpcMethodHandler``, which is generic in its stubs alone."""


def caller() -> Principal | None:
    """Who makes the call that the current task answers; None where the gateway has no keys."""
    return _principal.get()


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Checks ``authorization`` of every call.

    Args:
        keys: None lets everybody in.
    """

    def __init__(self, keys: KeyRing | None) -> None:
        self._keys = keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The handler of the call, or one that refuses it."""
        if self._keys is None or handler_call_details.method in OPEN_METHODS:
            return await continuation(handler_call_details)
        try:
            # gRPC runs interceptors and handler of a call in one task.
            _principal.set(self._keys.authenticate(_authorization(handler_call_details), protocol="grpc"))
        except RequestError as refusal:
            return _refusing(refusal)
        return await continuation(handler_call_details)


def _authorization(call: grpc.HandlerCallDetails) -> str | None:
    for key, value in call.invocation_metadata or ():
        if key == "authorization":
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None


def _refusing(error: RequestError) -> _Handler:
    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(status_of(error), str(error), trailers_of(error))

    # Of this kind, because it answers callers of any kind: nothing is read, and only a status is sent.
    return grpc.stream_stream_rpc_method_handler(refuse)
