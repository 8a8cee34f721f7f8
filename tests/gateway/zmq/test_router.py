"""The ROUTER socket under clients that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import zmq
import zmq.asyncio

from pipespec.gateway.zmq import router as router_module
from pipespec.gateway.zmq.router import ClientGone, Router

LARGE = b"x" * 50_000


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router("127.0.0.1", 0)
    yield router
    await router.close()


@pytest.fixture
def context() -> zmq.asyncio.Context:
    return zmq.asyncio.Context()


@pytest.fixture
async def deaf(router: Router, context: zmq.asyncio.Context) -> AsyncIterator[zmq.asyncio.Socket]:
    """A client that said hello and reads no answers."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.IDENTITY, b"deaf")
    socket.connect(f"tcp://127.0.0.1:{router.port}")
    await socket.send(b"hello")
    await router.receive()
    yield socket
    context.destroy(linger=0)


async def fill(router: Router) -> int:
    """Send to the deaf client until its queue is full; how many messages that took."""
    sent = 0
    while await router.try_send(b"deaf", LARGE):
        sent += 1
        assert sent < 5000, "the queue has no bound"
    return sent


async def test_a_full_queue_is_told_and_holds_up_no_other_client(
    router: Router, deaf: zmq.asyncio.Socket, context: zmq.asyncio.Context
) -> None:
    await fill(router)
    other = context.socket(zmq.DEALER)
    other.connect(f"tcp://127.0.0.1:{router.port}")
    await other.send(b"hello")
    await router.send((await router.receive()).identity, b"answer")
    assert await asyncio.wait_for(other.recv(), 10) == b"answer"
    other.close()


async def test_what_a_client_sends_waits_in_its_own_queue_beyond_a_few_messages(router: Router) -> None:
    with zmq.Context() as plain, plain.socket(zmq.DEALER) as eager:
        eager.setsockopt(zmq.SNDHWM, 1)
        eager.setsockopt(zmq.LINGER, 0)
        eager.connect(f"tcp://127.0.0.1:{router.port}")
        num_sent = 0
        while eager.poll(500, zmq.POLLOUT):  # until nobody takes any more
            eager.send(b"x" * 2**20)
            num_sent += 1
            assert num_sent < 100, "the queue has no bound"
        # All of it, before the client goes: libzmq 4.3.5 may abort when a connection that it has stopped reading breaks.
        with suppress(TimeoutError):
            for _ in range(num_sent):
                message = await asyncio.wait_for(router.receive(), 5)
                assert message.frames == [b"x" * 2**20]


async def test_a_message_waits_for_room(router: Router, deaf: zmq.asyncio.Socket) -> None:
    sent = await fill(router)
    waiting = asyncio.create_task(router.send(b"deaf", b"last"))
    received = [await deaf.recv() for _ in range(sent + 1)]
    await waiting
    assert received == [LARGE] * sent + [b"last"]


async def test_a_client_that_never_reads_is_given_up(
    router: Router, deaf: zmq.asyncio.Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "STALLED_CLIENT_S", 0.05)
    await fill(router)
    with pytest.raises(ClientGone, match="has read nothing"):
        await router.send(b"deaf", b"more")


async def test_a_client_that_is_not_there_is_told(router: Router) -> None:
    with pytest.raises(ClientGone, match="not connected"):
        await router.send(b"nobody", b"answer")
