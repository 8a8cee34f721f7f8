"""Answers calls whose message is none with a proper status.

gRPC itself answers them with UNKNOWN and logs a traceback for each: whoever sends rubbish fills the disk.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from pipespec.gateway.grpc.status import status_of, trailers_of
from pipespec.ops.errors import RequestError

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Any
"""``grpc.RpcMethodHandler``, which is generic in its stubs alone."""

_UNDECODABLE: Final = object()
"""In the place of a message."""


class Decoding(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Wraps every method that takes one message; those that take a stream of them stay as they are."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The call's handler, which sees messages only."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            _guarded(handler.unary_stream if handler.response_streaming else handler.unary_unary),
            request_deserializer=_lenient(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            return _UNDECODABLE

    return read


def _guarded(method: Callable[[Any, _Context], Any]) -> Callable[[Any, _Context], Any]:
    """``method``, of the same kind, for messages only."""

    async def answer(request: Any, context: _Context) -> Any:
        if request is _UNDECODABLE:
            await _refuse(context)
        return await method(request, context)

    async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
        if request is _UNDECODABLE:
            await _refuse(context)
        async for response in method(request, context):
            yield response

    return stream if inspect.isasyncgenfunction(method) else answer


async def _refuse(context: _Context) -> None:
    error = RequestError("the bytes are not a message of this method", code="malformed_message")
    await context.abort(status_of(error), str(error), trailers_of(error))
