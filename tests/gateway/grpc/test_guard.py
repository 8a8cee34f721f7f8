"""Who is let in over gRPC: a real server with keys, asked with and without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.access.keys import ALICE, ALICE_NEW, BOB, CAROL, key_ring
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

Metadata = tuple[tuple[str, str], ...]
ASK = pb.GenerateRequest(text="hello")


def bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


@pytest.fixture
async def channel(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[grpc.aio.Channel]:
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        keys=key_ring(),
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop(grace_s=0)


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return pipespec_pb2_grpc.GenerationStub(channel)


async def refusal(call: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drain(call)
    return caught.value.code(), dict(caught.value.trailing_metadata() or ())


async def drain(call: Any) -> None:
    if not hasattr(call, "__aiter__"):
        await call
        return
    async for _ in call:
        pass


WITHOUT: list[Metadata] = [(), bearer("ps-nobody-0123456789"), (("authorization", f"Basic {ALICE}"),)]


@pytest.mark.parametrize("metadata", WITHOUT)
async def test_without_a_key_that_counts_no_method_answers(
    stub: Any, channel: grpc.aio.Channel, metadata: Metadata, backend: ScriptedBackend
) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    calls = [
        stub.Generate(ASK, metadata=metadata),
        stub.Cancel(pb.CancelRequest(request_id="x"), metadata=metadata),
        health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata),
        channel.unary_unary("/pipespec.v1.Generation/Nonsense")(b"", metadata=metadata),
        channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
            metadata=metadata
        ),
    ]
    for call in calls:
        status, trailers = await refusal(call)
        assert status is grpc.StatusCode.UNAUTHENTICATED
        assert trailers["pipespec-code"] == "invalid_api_key"
    assert backend.opened == []


async def test_a_health_check_needs_no_key(channel: grpc.aio.Channel) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("key", [ALICE, ALICE_NEW, BOB])
async def test_every_key_that_counts_is_served(stub: Any, key: str) -> None:
    *_, last = [response async for response in stub.Generate(ASK, metadata=bearer(key))]
    assert last.completed.finish_reason == pb.FINISH_REASON_STOP


async def test_a_model_of_others_is_not_served(stub: Any, backend: ScriptedBackend) -> None:
    status, trailers = await refusal(stub.Generate(ASK, metadata=bearer(CAROL)))
    assert (status, trailers["pipespec-code"]) == (grpc.StatusCode.PERMISSION_DENIED, "model_not_allowed")
    assert backend.opened == []


async def test_a_key_at_its_limit_is_told_when_to_retry(stub: Any, backend: ScriptedBackend) -> None:
    pause = asyncio.Event()
    backend.scripts.append([(5,), pause, (2,)])
    first = stub.Generate(ASK, metadata=bearer(BOB))
    await anext(aiter(first))
    status, trailers = await refusal(stub.Generate(ASK, metadata=bearer(BOB)))
    assert (status, trailers["pipespec-code"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "key_limit_reached")
    assert int(trailers["pipespec-retry-after-ms"]) > 0
    pause.set()
    async for _ in first:
        pass
    assert [response async for response in stub.Generate(ASK, metadata=bearer(BOB))]


async def test_a_request_is_active_for_its_own_principal_only(stub: Any, backend: ScriptedBackend) -> None:
    backend.scripts.append([(5,), asyncio.Event()])
    running = stub.Generate(pb.GenerateRequest(text="hello", request_id="same"), metadata=bearer(ALICE))
    events = aiter(running)
    await anext(events)
    cancel = pb.CancelRequest(request_id="same")
    status, _ = await refusal(stub.Cancel(cancel, metadata=bearer(BOB)))
    assert status is grpc.StatusCode.NOT_FOUND
    again = pb.GenerateRequest(text="hello", request_id="same")
    status, _ = await refusal(stub.Generate(again, metadata=bearer(ALICE_NEW)))
    assert status is grpc.StatusCode.ALREADY_EXISTS
    assert [response async for response in stub.Generate(again, metadata=bearer(BOB))]
    await stub.Cancel(cancel, metadata=bearer(ALICE_NEW))
    status, _ = await refusal(events)
    assert status is grpc.StatusCode.CANCELLED
