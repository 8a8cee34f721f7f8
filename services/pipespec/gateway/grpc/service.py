"""The service ``pipespec.v1.Generation``: one call, one generation, or the rest of a resumable one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import structlog

from pipespec.gateway.access import name_of
from pipespec.gateway.generation import Generator
from pipespec.gateway.grpc.guard import caller
from pipespec.gateway.grpc.status import status_of, trailers_of
from pipespec.gateway.grpc.translation import (
    FrameRenderer,
    resumable_response,
    to_request,
    to_response,
)
from pipespec.gateway.resume import (
    Reader,
    ResumeService,
    beyond_the_end,
    parse_resume_id,
    parse_token,
    resuming,
)
from pipespec.ops.errors import RequestError
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

REQUEST_ID = "x-request-id"
"""Metadata that comes before the first token: also a request that named none can be cancelled."""
STALLED_CLIENT_S = 30.0
"""A client that reads nothing for this long is given up; its session holds memory on every stage."""

PROTOCOL = "grpc"
"""Of requests, in metrics, and of the frames of resumable streams."""
STREAM = "pipespec-stream"
"""Initial metadata that names a resumable stream."""

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger(__name__)


class GenerationService(pipespec_pb2_grpc.GenerationServicer):
    """Answers calls.

    gRPC cancels a handler when its client cancels or is gone: that leaves the generation, or begins the grace of a
    resumable stream.
    """

    def __init__(self, generator: Generator, resume: ResumeService | None) -> None:
        self._generator = generator
        self._resume = resume

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802 - named by the proto; the stub knows only iterators
        """Stream one generation."""
        async with _told(context, request.request_id):
            if request.model:
                self._generator.check_model(request.model)
            keeper = resuming(self._resume) if request.resumable else None
            asked = to_request(request)
            generation = await self._generator.start(asked, principal=caller())
            if keeper is not None:
                reader = keeper.start(
                    generation, FrameRenderer(), protocol=PROTOCOL, principal=name_of(caller())
                )
                await _deliver(reader, context, request_id=asked.request_id)
                return
            async with generation:
                await context.send_initial_metadata(((REQUEST_ID, asked.request_id),))
                async for event in generation:
                    await _write(context, to_response(event))

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802 - as above
        """Stream the rest of a generation."""
        async with _told(context):  # its name is a secret, and not for the log
            token, index = parse_resume_id(request.resume_id, param="resume_id")
            keeper, principal = resuming(self._resume), name_of(caller())
            reader = await keeper.resume(token, index, protocol=PROTOCOL, principal=principal)
            await _deliver(reader, context)

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802 - named by the proto
        """End an active request, or a resumable stream."""
        async with _told(context, request.request_id):
            if request.resume_id:
                token = parse_token(request.resume_id, param="resume_id")
                keeper = resuming(self._resume)
                await keeper.cancel(token, protocol=PROTOCOL, principal=name_of(caller()))
            elif not self._generator.cancel(request.request_id, principal=caller()):
                unknown = f"no request {request.request_id[:128]!r} is active"
                raise RequestError(unknown, code="request_not_found", param="request_id")
        return pb.CancelResponse()


@asynccontextmanager
async def _told(context: Context, request_id: str = "") -> AsyncIterator[None]:
    """End the call with the status that an error in the block means."""
    try:
        yield
    except RequestError as error:
        await _abort(context, error)
    except TimeoutError:
        _log.warning("client_stalled", request_id=request_id)
        await _abort(context, RequestError("the client stopped reading", code="cancelled"))
    except Exception:  # noqa: BLE001 - gRPC would show the client a bug of ours in full
        _log.exception("call_failed", request_id=request_id)
        await _abort(context, RequestError("the gateway failed", code="internal_error"))


async def _deliver(reader: Reader, context: Context, *, request_id: str | None = None) -> None:
    """Send the frames of a resumable stream; the request id is known where the stream begins."""
    named = () if request_id is None else ((REQUEST_ID, request_id),)
    async with reader:
        await context.send_initial_metadata(((STREAM, str(reader.token)), *named))
        has_ended = False
        async for frame in reader:
            response = resumable_response(reader.token, frame)
            has_ended = response.WhichOneof("event") == "completed"
            await _write(context, response)
        if not has_ended:
            raise beyond_the_end()


async def _write(context: Context, response: pb.GenerateResponse) -> None:
    async with asyncio.timeout(STALLED_CLIENT_S):
        await context.write(response)


async def _abort(context: Context, error: RequestError) -> NoReturn:
    await context.abort(status_of(error), str(error), trailers_of(error))
    raise error  # unreachable: abort raises
