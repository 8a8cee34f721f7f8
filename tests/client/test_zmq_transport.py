"""What only the ZeroMQ transport has: silence, restarts, a wire format of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from gateway.scripted_backend import ScriptedBackend
from pipespec.client.request import Request
from pipespec.client.zmq_messages import unpack
from pipespec.client.zmq_transport import ZmqTransport
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.errors import MalformedMessage, RequestError, Unavailable
from pipespec.ops.pipeline import GatewaySettings


async def test_a_gateway_that_does_not_answer_is_given_up() -> None:
    transport = ZmqTransport("127.0.0.1:1", silence_s=0.2)
    with pytest.raises(Unavailable) as caught:
        await anext(transport.events(Request(text="hello")))
    assert caught.value.code == "gateway_unreachable"
    await transport.close()


async def test_a_quiet_request_is_not_given_up_while_the_gateway_answers(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    pause = asyncio.Event()
    backend.default = [pause, (2,)]
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    transport = ZmqTransport(f"127.0.0.1:{server.port}", silence_s=0.2)
    events = transport.events(Request(text="hello"))
    first = asyncio.ensure_future(anext(events))
    # Twice as long as silence would be borne.
    done, _ = await asyncio.wait({first}, timeout=0.4)
    assert not done
    pause.set()
    await first
    await events.aclose()
    await transport.close()
    await server.stop(grace_s=0)


async def test_a_restarted_gateway_does_not_know_the_request_and_says_so(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    serving: Any = {"backend": backend, "text": text, "settings": settings, "model_name": "small"}
    server = await serve_zmq(**serving, host="127.0.0.1", port=0)
    transport = ZmqTransport(f"127.0.0.1:{server.port}", silence_s=2)
    events = transport.events(Request(text="hello"))
    await anext(events)
    # Gone without a word, as after a crash: its clients hear nothing.
    tasks = [*server._loops, *server._tasks]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await server._router.close()
    successor = await serve_zmq(**serving, host="127.0.0.1", port=server.port)
    with pytest.raises(RequestError) as caught:
        await anext(events)
    assert caught.value.code == "request_not_found"
    await transport.close()
    await successor.stop(grace_s=0)


async def test_a_closed_client_does_not_connect_again(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    transport = ZmqTransport(f"127.0.0.1:{server.port}")
    events = transport.events(Request(text="hello"))
    await anext(events)
    await transport.close()
    await events.aclose()  # an open stream, left after the client: its cancel has nowhere to go
    with pytest.raises(RequestError) as caught:
        await anext(transport.events(Request(text="hello")))
    assert caught.value.code == "cancelled"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("pipespec-client")]
    await server.stop(grace_s=0)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"v": 2, "type": "pong"}),
        msgpack.packb({"v": 1, "type": "news", "id": "a"}),
        msgpack.packb({"v": 1, "type": "tokens", "id": "a"}),
    ],
)
def test_what_is_not_of_the_protocol_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack(frame)
