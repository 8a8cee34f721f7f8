"""gRPC over TLS, with certificates that change while it serves."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from gateway.access.keys import CA, check_tls_1_2_is_the_least, common_name, lay_certificate, trusting
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.access import Certificate
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(*lay_certificate("first", tmp_path))


@pytest.fixture
async def port(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, certificate: Certificate
) -> AsyncIterator[int]:
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        certificate=certificate,
    )
    yield server.port
    await server.stop(grace_s=0)


def secure_channel(port: int) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(root_certificates=CA.read_bytes())
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials)


async def ask(channel: grpc.aio.Channel) -> list[pb.GenerateResponse]:
    call = pipespec_pb2_grpc.GenerationStub(channel).Generate(pb.GenerateRequest(text="hello"), timeout=60)
    return [response async for response in call]


def speaking_http2(maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    context = trusting(maximum)
    context.set_alpn_protocols(["h2"])
    return context


async def test_a_generation_comes_over_tls(port: int) -> None:
    async with secure_channel(port) as channel:
        assert (await ask(channel))[-1].completed.finish_reason == pb.FINISH_REASON_STOP


async def test_nothing_is_served_in_plain(port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_refused_and_1_2_is_not(port: int) -> None:
    await check_tls_1_2_is_the_least(port, speaking_http2)


async def test_a_new_certificate_counts_for_new_connections_and_leaves_old_ones_alone(
    port: int, certificate: Certificate, tmp_path: Path
) -> None:
    async with secure_channel(port) as channel:
        assert await ask(channel)
        assert await common_name(port, speaking_http2()) == "first"
        lay_certificate("second", tmp_path)
        certificate.load()
        assert await common_name(port, speaking_http2()) == "second"
        assert await common_name(port, speaking_http2()) == "second", "also the one after it"
        assert await ask(channel)
