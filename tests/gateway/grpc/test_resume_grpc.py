"""Resuming over gRPC, by generated stubs: ids, statuses, and who ends what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

ASK = pb.GenerateRequest(text="hello", resumable=True, request_id="r1", include_stats=True)
UNKNOWN = f"g0.{0:032x}"


@pytest.fixture(params=[True])
async def stub(
    request: pytest.FixtureRequest,
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    resume: ResumeService,
) -> AsyncIterator[Any]:
    """A client of a server that keeps streams, or does not."""
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        resume=resume if request.param else None,
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield pipespec_pb2_grpc.GenerationStub(channel)
    await server.stop(grace_s=0)


async def first(call: Any, count: int) -> list[pb.GenerateResponse]:
    """The first so many responses; then the call is gone, as when a connection is lost."""
    responses = [await call.read() for _ in range(count)]
    call.cancel()
    return responses


async def _read_all(call: Any) -> None:
    if not hasattr(call, "read"):
        await call
        return
    while await call.read() is not grpc.aio.EOF:
        pass


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _read_all(call)
    trailers: Any = caught.value.trailing_metadata() or ()
    return caught.value.code(), str(dict(trailers).get("pipespec-code"))


def unnamed(responses: list[pb.GenerateResponse]) -> list[pb.GenerateResponse]:
    """Without the names, which differ from stream to stream."""
    copies = [pb.GenerateResponse.FromString(response.SerializeToString()) for response in responses]
    for copy in copies:
        copy.ClearField("resume_id")
    return copies


async def test_cut_after_any_event_the_rest_is_what_would_have_come(stub: Any) -> None:
    call = stub.Generate(ASK)
    (stream,) = [value for key, value in await call.initial_metadata() if key == "pipespec-stream"]
    whole = [response async for response in call]
    *names, end = [response.resume_id for response in whole]
    assert names == [f"{stream}.{index}" for index in range(len(names))]
    assert end == ""
    assert whole[-1].WhichOneof("event") == "completed"
    for cut in range(len(whole) + 1):
        call = stub.Generate(ASK)
        last = dict(await call.initial_metadata())["pipespec-stream"]
        begun = await first(call, cut)
        last = ([last] + [response.resume_id for response in begun if response.resume_id])[-1]
        rest = [response async for response in stub.Resume(pb.ResumeRequest(resume_id=last))]
        both = begun + rest if cut < len(whole) else begun  # the end is said again
        assert rest[-1].WhichOneof("event") == "completed"
        assert unnamed(both) == unnamed(whole)
        while True:  # until the cut call has let go of its request id
            code, _ = await status_of(stub.Cancel(pb.CancelRequest(request_id="r1")))
            if code is grpc.StatusCode.NOT_FOUND:
                break


@pytest.mark.parametrize(
    ("resume_id", "expected"),
    [
        (UNKNOWN, (grpc.StatusCode.NOT_FOUND, "resume_expired")),
        (f"{UNKNOWN}.4", (grpc.StatusCode.NOT_FOUND, "resume_expired")),
        (f"g1.{0:032x}", (grpc.StatusCode.NOT_FOUND, "resume_expired")),
        ("", (grpc.StatusCode.INVALID_ARGUMENT, "invalid_value")),
        ("g0.12", (grpc.StatusCode.INVALID_ARGUMENT, "invalid_value")),
    ],
)
async def test_what_cannot_be_resumed_has_a_status(stub: Any, resume_id: str, expected: Any) -> None:
    assert await status_of(stub.Resume(pb.ResumeRequest(resume_id=resume_id))) == expected


async def test_a_cancelled_call_leaves_the_generation_and_cancel_ends_it(
    stub: Any, backend: ScriptedBackend, resume: ResumeService
) -> None:
    backend.default = [(5,), asyncio.Event()]
    by_stream, by_request = [
        (await first(stub.Generate(pb.GenerateRequest(text="a", resumable=True, request_id=name)), 1))[0]
        for name in ("r1", "r2")
    ]
    while resume.num_readers:
        await asyncio.sleep(0.01)
    assert [session.end for session in backend.opened] == [None, None]
    await stub.Cancel(pb.CancelRequest(resume_id=by_stream.resume_id))
    await stub.Cancel(pb.CancelRequest(request_id="r2"))
    for session, response in zip(backend.opened, (by_stream, by_request), strict=True):
        await asyncio.wait_for(session.closed.wait(), 60)
        assert session.end is EndReason.CANCELLED
        ended = stub.Resume(pb.ResumeRequest(resume_id=response.resume_id))
        assert await status_of(ended) == (grpc.StatusCode.CANCELLED, "cancelled")
    unknown = stub.Cancel(pb.CancelRequest(resume_id=UNKNOWN))
    assert await status_of(unknown) == (grpc.StatusCode.NOT_FOUND, "resume_expired")


async def test_the_older_of_two_calls_is_aborted(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    older = stub.Generate(ASK)
    response = await older.read()
    newer = stub.Resume(pb.ResumeRequest(resume_id=response.resume_id.rpartition(".")[0]))
    assert await newer.read() == response
    assert await status_of(older) == (grpc.StatusCode.ABORTED, "resumed_elsewhere")


@pytest.mark.parametrize("stub", [False], indirect=True)
async def test_where_it_is_off_it_is_refused_and_nothing_is_opened(
    stub: Any, backend: ScriptedBackend
) -> None:
    for call in (stub.Generate(ASK), stub.Resume(pb.ResumeRequest(resume_id=UNKNOWN))):
        assert await status_of(call) == (grpc.StatusCode.INVALID_ARGUMENT, "unsupported_parameter")
    assert backend.opened == []


async def test_beyond_the_end_there_is_nothing_and_that_is_said(stub: Any) -> None:
    responses = [response async for response in stub.Generate(ASK)]
    stream = responses[0].resume_id.rpartition(".")[0]
    for beyond in (len(responses) - 1, len(responses)):
        call = stub.Resume(pb.ResumeRequest(resume_id=f"{stream}.{beyond}"))
        assert await status_of(call) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_value")
