"""The service ``pipespec.v1.Generation``: one call, one generation."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
import structlog

from pipespec.gateway.generation import Generator
from pipespec.gateway.grpc.guard import caller
from pipespec.gateway.grpc.status import status_of, trailers_of
from pipespec.gateway.grpc.translation import to_request, to_response
from pipespec.ops.errors import RequestError
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

REQUEST_ID = "x-request-id"
"""Metadata that comes before the first token: also a request that named none can be cancelled."""
STALLED_CLIENT_S = 30.0
"""A client that reads nothing for this long is given up; its session holds memory on every stage."""

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger(__name__)


class GenerationService(pipespec_pb2_grpc.GenerationServicer):
    """Answers calls. gRPC cancels a handler when its client cancels or is gone, which leaves the generation."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802 - named by the proto; the stub knows only iterators
        """Stream one generation."""
        try:
            if request.model:
                self._generator.check_model(request.model)
            asked = to_request(request)
            async with await self._generator.start(asked, principal=caller()) as generation:
                await context.send_initial_metadata(((REQUEST_ID, asked.request_id),))
                async for event in generation:
                    async with asyncio.timeout(STALLED_CLIENT_S):
                        await context.write(to_response(event))
        except RequestError as error:
            await _abort(context, error)
        except TimeoutError:
            await _abort(context, RequestError("the client stopped reading", code="cancelled"))
        except Exception:  # noqa: BLE001 - gRPC would show the client a bug of ours in full
            _log.exception("call_failed", request_id=request.request_id)
            await _abort(context, RequestError("the gateway failed", code="internal_error"))

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802 - named by the proto
        """End an active request."""
        if not self._generator.cancel(request.request_id, principal=caller()):
            unknown = f"no request {request.request_id[:128]!r} is active"
            await _abort(context, RequestError(unknown, code="request_not_found", param="request_id"))
        return pb.CancelResponse()


async def _abort(context: Context, error: RequestError) -> NoReturn:
    await context.abort(status_of(error), str(error), trailers_of(error))
    raise error  # unreachable: abort raises
