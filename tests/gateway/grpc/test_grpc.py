"""The real gRPC server, by generated stubs, by reflection and by the health service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from structlog.testing import capture_logs

from gateway.scripted_backend import STATS, ScriptedBackend
from pipespec.gateway.grpc import GrpcServer, serve_grpc
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.ops.errors import Overloaded, SessionLost, SettingsError, Unavailable
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason
from pipespec.protocol.sampling import Sampling
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

SAID = "Hello 👍🏽 world!"


@pytest.fixture
async def server(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[GrpcServer]:
    server = await serve_grpc(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return pipespec_pb2_grpc.GenerationStub(channel)


async def collect(call: Any) -> tuple[list[pb.Delta], pb.Completed]:
    *deltas, last = [response async for response in call]
    assert all(response.WhichOneof("event") == "delta" for response in deltas)
    assert last.WhichOneof("event") == "completed"
    return [response.delta for response in deltas], last.completed


async def error_of(call: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value.code(), dict(caught.value.trailing_metadata() or ())


async def test_a_generation_streams_deltas_and_completes(stub: Any, text: TextModel) -> None:
    deltas, completed = await collect(stub.Generate(pb.GenerateRequest(text="hello", include_stats=True)))
    assert "".join(delta.text for delta in deltas) == SAID
    ids = [token for delta in deltas for token in delta.token_ids]
    assert ids == [*text.encode(SAID), 2]
    assert [delta.start for delta in deltas if delta.token_ids] == list(range(len(ids)))
    assert completed.finish_reason == pb.FINISH_REASON_STOP
    assert completed.usage.prompt_tokens == len(text.encode("hello"))
    assert completed.usage.completion_tokens == len(ids)
    assert [stage.accepted for stage in completed.stages] == [stats.counters.accepted for stats in STATS]


async def test_every_field_reaches_the_pipeline(stub: Any, backend: ScriptedBackend, text: TextModel) -> None:
    request = pb.GenerateRequest(
        chat=pb.Chat(messages=[pb.Message(role="user", content="hello")]),
        model="small",
        max_tokens=9,
        sampling=pb.Sampling(
            temperature=0.8,
            top_p=0.9,
            top_k=7,
            min_p=0.05,
            seed=2**64 - 1,
            repetition_penalty=1.1,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias={9: 1.5, 5: -100},
        ),
        speculate=False,
        ignore_eos=True,
        stop=["zzz"],
    )
    await collect(stub.Generate(request))
    (stream,) = backend.opened
    assert stream.prompt == tuple(text.render_chat([ChatMessage("user", "hello")]))
    assert not stream.speculate
    assert stream.sampling == Sampling(
        max_tokens=9,
        temperature=0.8,
        top_p=0.9,
        top_k=7,
        min_p=0.05,
        seed=2**64 - 1,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias=((5, -100.0), (9, 1.5)),
    )


async def test_unset_fields_are_neutral(stub: Any, backend: ScriptedBackend) -> None:
    await collect(stub.Generate(pb.GenerateRequest(token_ids=pb.TokenIds(ids=[5, 6]))))
    (stream,) = backend.opened
    assert stream.prompt == (5, 6)
    assert stream.speculate
    seed = stream.sampling.seed
    assert stream.sampling == Sampling(temperature=1.0, max_tokens=64, seed=seed, stop_ids=(2,))


async def test_an_explicit_zero_is_not_unset(stub: Any, backend: ScriptedBackend) -> None:
    await collect(stub.Generate(pb.GenerateRequest(text="x", sampling=pb.Sampling(temperature=0, seed=0))))
    assert backend.opened[0].sampling.is_greedy
    assert backend.opened[0].sampling.seed == 0


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (pb.GenerateRequest(), "INVALID_ARGUMENT", "missing_required_parameter"),
        (pb.GenerateRequest(chat=pb.Chat()), "INVALID_ARGUMENT", "invalid_value"),
        (
            pb.GenerateRequest(chat=pb.Chat(messages=[pb.Message(role="wizard", content="x")])),
            "INVALID_ARGUMENT",
            "invalid_value",
        ),
        (pb.GenerateRequest(text="x", max_tokens=0), "INVALID_ARGUMENT", "invalid_value"),
        (pb.GenerateRequest(text="x", max_tokens=2**32 - 1), "INVALID_ARGUMENT", "context_length_exceeded"),
        (
            pb.GenerateRequest(text="x", sampling=pb.Sampling(temperature=-1)),
            "INVALID_ARGUMENT",
            "invalid_value",
        ),
        (
            pb.GenerateRequest(text="x", sampling=pb.Sampling(temperature=float("nan"))),
            "INVALID_ARGUMENT",
            "invalid_value",
        ),
        (pb.GenerateRequest(text="x", stop=["a"] * 5), "INVALID_ARGUMENT", "invalid_value"),
        (pb.GenerateRequest(text="x", request_id="a b"), "INVALID_ARGUMENT", "invalid_value"),
        (pb.GenerateRequest(token_ids=pb.TokenIds(ids=[330])), "INVALID_ARGUMENT", "invalid_value"),
        (pb.GenerateRequest(text="x", model="other"), "NOT_FOUND", "model_not_found"),
    ],
)
async def test_bad_requests_have_a_status_and_a_code(
    stub: Any, backend: ScriptedBackend, request_: pb.GenerateRequest, status: str, code: str
) -> None:
    got, trailers = await error_of(stub.Generate(request_))
    assert (got.name, trailers["pipespec-code"]) == (status, code)
    assert backend.opened == []


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Overloaded("full", retry_after_s=2.5), "RESOURCE_EXHAUSTED"),
        (Unavailable("no target", code="no_target_available"), "UNAVAILABLE"),
    ],
)
async def test_refusals_of_the_pipeline_say_when_to_retry(
    stub: Any, backend: ScriptedBackend, refusal: Exception, status: str
) -> None:
    backend.refusal = refusal
    got, trailers = await error_of(stub.Generate(pb.GenerateRequest(text="x")))
    assert got.name == status
    if status == "RESOURCE_EXHAUSTED":
        assert trailers["pipespec-retry-after-ms"] == "2500"


async def test_a_lost_session_ends_the_stream_without_completed(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [(5,), SessionLost("no target can go on", code="session_lost")]
    call = stub.Generate(pb.GenerateRequest(text="x"))
    events = aiter(call)
    assert (await anext(events)).WhichOneof("event") == "delta"
    status, trailers = await error_of(events)
    assert (status, trailers["pipespec-code"]) == (grpc.StatusCode.UNAVAILABLE, "session_lost")


async def test_a_bug_of_ours_is_internal_without_details(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [RuntimeError("secret")]
    with capture_logs() as logs:
        call = stub.Generate(pb.GenerateRequest(text="x"))
        status, _ = await error_of(call)
    assert [entry["event"] for entry in logs] == ["call_failed"]
    assert status is grpc.StatusCode.INTERNAL
    assert "secret" not in await call.details()


async def test_a_message_over_four_mebibytes_is_refused(stub: Any) -> None:
    status, _ = await error_of(stub.Generate(pb.GenerateRequest(text="x" * (4 * 2**20 + 1))))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_cancel_ends_the_request_of_another_call(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    call = stub.Generate(pb.GenerateRequest(text="x", request_id="r1"))
    events = aiter(call)
    await anext(events)
    await stub.Cancel(pb.CancelRequest(request_id="r1"))
    status, trailers = await error_of(events)
    assert (status, trailers["pipespec-code"]) == (grpc.StatusCode.CANCELLED, "cancelled")
    assert backend.opened[0].end is EndReason.CANCELLED


async def test_cancel_of_an_unknown_request_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Cancel(pb.CancelRequest(request_id="r1"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_active_request_id_is_refused(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    first = stub.Generate(pb.GenerateRequest(text="x", request_id="r1"))
    await first.read()
    status, _ = await error_of(stub.Generate(pb.GenerateRequest(text="x", request_id="r1")))
    assert status is grpc.StatusCode.ALREADY_EXISTS
    assert len(backend.opened) == 1


@pytest.mark.parametrize("script", ["before the first token", "after it"])
@pytest.mark.parametrize("how", ["cancel", "disconnect"])
async def test_a_client_that_goes_away_cancels_its_session(
    server: GrpcServer, backend: ScriptedBackend, script: str, how: str
) -> None:
    backend.default = [asyncio.Event()] if script == "before the first token" else [(5,), asyncio.Event()]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    call = pipespec_pb2_grpc.GenerationStub(channel).Generate(pb.GenerateRequest(text="x"))
    reading = asyncio.create_task(error_of(call))
    session = await backend.session(0)
    if how == "cancel":
        call.cancel()
    await channel.close()
    await asyncio.wait_for(session.closed.wait(), 10)
    assert session.end is EndReason.CANCELLED
    reading.cancel()
    await asyncio.wait({reading})


async def test_the_clients_deadline_cancels_the_session(stub: Any, backend: ScriptedBackend) -> None:
    backend.default = [asyncio.Event()]
    status, _ = await error_of(stub.Generate(pb.GenerateRequest(text="x"), timeout=0.1))
    assert status is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(backend.opened[0].closed.wait(), 10)


async def test_health_follows_readiness(channel: grpc.aio.Channel, backend: ScriptedBackend) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", "pipespec.v1.Generation"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == serving
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="pipespec.v1.Generation"))
    assert (await watch.read()).status == serving
    backend.is_ready = False
    assert (await watch.read()).status == not_serving


async def test_a_health_task_that_fails_is_told(
    server: GrpcServer, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(type(server._generator), "is_ready", property(fail))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(server.failed(), 10)


async def test_it_can_be_driven_by_reflection_alone(server: GrpcServer) -> None:
    def drive() -> list[Any]:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert "pipespec.v1.Generation" in database.get_services()
            pool = descriptor_pool.DescriptorPool(database)
            method = pool.FindServiceByName("pipespec.v1.Generation").FindMethodByName("Generate")
            ask, answer = (
                message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)
            )
            call = channel.unary_stream(
                "/pipespec.v1.Generation/Generate",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return list(call(ask(text="hello"), timeout=10))

    *deltas, last = await asyncio.to_thread(drive)
    assert "".join(response.delta.text for response in deltas) == SAID
    assert last.completed.usage.completion_tokens > 0


async def test_reflection_is_off_unless_set(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    server = await serve_grpc(
        backend=backend, text=text, settings=GatewaySettings(), model_name="small", host="127.0.0.1", port=0
    )

    def services() -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            return ProtoReflectionDescriptorDatabase(channel).get_services()

    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(services)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]  # a call as well
    await server.stop(grace_s=0)


async def test_stopping_lets_running_calls_finish(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, (2,)]
    server = await serve_grpc(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = pipespec_pb2_grpc.GenerationStub(channel).Generate(pb.GenerateRequest(text="x"))
        events = aiter(call)
        await anext(events)
        stopping = asyncio.create_task(server.stop(grace_s=10))
        await asyncio.sleep(0)
        pause.set()
        _, completed = await collect(events)
        await stopping
    assert completed.finish_reason == pb.FINISH_REASON_STOP


async def test_calls_left_at_the_end_of_the_grace_get_an_error(
    server: GrpcServer, stub: Any, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), asyncio.Event()]
    events = aiter(stub.Generate(pb.GenerateRequest(text="x")))
    await anext(events)
    stopping = asyncio.create_task(server.stop(grace_s=0))
    status, trailers = await error_of(events)
    assert (status, trailers["pipespec-code"]) == (grpc.StatusCode.UNAVAILABLE, "server_shutting_down")
    await stopping


async def test_a_port_in_use_is_a_settings_error(
    server: GrpcServer, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    with pytest.raises(SettingsError, match="cannot serve gRPC"):
        await serve_grpc(
            backend=backend, text=text, settings=settings, model_name="x", host="127.0.0.1", port=server.port
        )


async def test_one_connection_carries_many_generations_at_once(stub: Any, backend: ScriptedBackend) -> None:
    """gRPC refuses what is beyond a connection's streams; what bounds the sessions is the gateway, with an error of its own."""
    gate = asyncio.Event()
    backend.scripts.extend([[gate, (5, 2)]] * 200)
    calls = [
        asyncio.create_task(collect(stub.Generate(pb.GenerateRequest(text="hello")))) for _ in range(200)
    ]
    while len(backend.opened) < 200:
        await asyncio.sleep(0.01)
    gate.set()
    assert all(completed.usage.completion_tokens == 2 for _, completed in await asyncio.gather(*calls))


async def test_the_request_id_is_echoed_or_made_before_anything_is_generated(
    stub: Any, backend: ScriptedBackend
) -> None:
    backend.default = [asyncio.Event()]
    for given in ("abc-1", ""):
        call = stub.Generate(pb.GenerateRequest(text="hello", request_id=given))
        echoed = dict(await call.initial_metadata())["x-request-id"]
        assert echoed == given or not given
        await stub.Cancel(pb.CancelRequest(request_id=echoed))
        assert (await error_of(call))[0] is grpc.StatusCode.CANCELLED
