"""Requests over ZeroMQ: one DEALER socket for all requests of a client.

One task receives and sorts messages by request, one pings while requests are active. Per request a queue, bounded by
what the gateway may send for it: its ``max_tokens``.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from pipespec.client.completion import Chunk, Finished, Started
from pipespec.client.curve import Curve
from pipespec.client.errors import deadline_exceeded, not_active, unreachable
from pipespec.client.handshakes import BROKEN_OFF, REFUSED, curve_options, why_broken_off, why_refused
from pipespec.client.request import Request, Resumption
from pipespec.client.zmq_messages import pack_cancel, pack_generate, pack_ping, pack_resume, unpack
from pipespec.ops.errors import MalformedMessage, RequestError

PING_S = 1.0
SILENCE_S = 5.0
"""A gateway that answers no ping for this long is given up."""
_LINGER_MS = 200
"""So that a last ``cancel`` leaves the process."""

_HANDSHAKES = "inproc://handshakes"
_CANCEL_S = 5.0
"""That ending a resumable stream of another gateway may take."""

_Inbox = asyncio.Queue[Started | Chunk | Finished | RequestError]


class ZmqTransport:
    """A socket; connects when first used.

    Args:
        address: ``host:port``.
        curve: keys; None speaks in plain.
        silence_s: a gateway that is silent for this long, with requests active, is given up.
    """

    def __init__(self, address: str, *, curve: Curve | None = None, silence_s: float = SILENCE_S) -> None:
        self._address = address
        self._curve = curve
        self._is_refused = False
        self._doubt = ""
        self._silence_s = silence_s
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._monitor: zmq.asyncio.Socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._inboxes: dict[str, _Inbox] = {}
        self._cancelling: set[str] = set()  # ids of `cancel` alone: no requests, so a ping does not name them
        self._heard = 0.0
        self._is_closed = False

    async def events(self, request: Request | Resumption) -> AsyncGenerator[Started | Chunk | Finished]:
        """See ``Transport``."""
        frame = pack_resume(request) if isinstance(request, Resumption) else pack_generate(request)
        if request.request_id in self._inboxes:
            raise RequestError(
                f"request id {request.request_id!r} is active; use another one",
                code="request_id_active",
                param="request_id",
            )
        loop = asyncio.get_running_loop()
        deadline = None if request.timeout_s is None else loop.time() + request.timeout_s
        inbox: _Inbox = asyncio.Queue()
        if not self._inboxes:
            self._heard = loop.time()  # silence counts from the first request on
        self._inboxes[request.request_id] = inbox
        ended = False
        try:
            await self._send(frame)
            while not ended:
                try:
                    async with asyncio.timeout_at(deadline):
                        event = await inbox.get()
                except TimeoutError:
                    raise deadline_exceeded(request.timeout_s) from None
                ended = isinstance(event, Finished | RequestError)
                if isinstance(event, RequestError):
                    raise event
                yield event
        finally:
            del self._inboxes[request.request_id]
            if not ended:
                with contextlib.suppress(RequestError):
                    await self._send(pack_cancel(request.request_id))

    async def cancel(self, request_id: str) -> None:
        """See ``Transport``. Reaches this client's own requests only."""
        if request_id not in self._inboxes:
            raise not_active(request_id)
        await self._send(pack_cancel(request_id))

    async def cancel_stream(self, resume_id: str) -> None:
        """See ``Transport``."""
        request_id = uuid.uuid4().hex
        inbox = self._inboxes[request_id] = asyncio.Queue()
        self._cancelling.add(request_id)
        try:
            await self._send(pack_cancel(request_id, resume_id=resume_id))
            async with asyncio.timeout(_CANCEL_S):
                answer = await inbox.get()
        except TimeoutError:
            raise unreachable(self._address, f"no answer for {_CANCEL_S:g} s") from None
        finally:
            del self._inboxes[request_id]
            self._cancelling.discard(request_id)
        if isinstance(answer, RequestError) and answer.code != "cancelled":
            raise answer

    async def close(self) -> None:
        """See ``Transport``."""
        self._is_closed = True
        for inbox in self._inboxes.values():
            inbox.put_nowait(_closed())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._monitor is not None:
            self._monitor.close(linger=0)
        if self._socket is not None and self._context is not None:
            # The gateway drops this client's requests when it is gone.
            self._socket.close(linger=_LINGER_MS)
            await asyncio.to_thread(self._context.term)
            self._socket = self._monitor = self._context = None

    def _connect(self) -> zmq.asyncio.Socket:
        self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.DEALER)
        options: dict[int, int | bytes] = {
            zmq.LINGER: 0,
            zmq.SNDHWM: 1000,
            zmq.RCVHWM: 0,  # a full socket that reconnects aborts the process: docs/decisions/0008
            zmq.MAXMSGSIZE: 4 * 1024 * 1024,
            zmq.RECONNECT_IVL: 50,
            zmq.RECONNECT_IVL_MAX: 1000,
            zmq.HEARTBEAT_IVL: 500,
            zmq.HEARTBEAT_TIMEOUT: 1500,
            zmq.IPV6: int("[" in self._address),
            **curve_options(self._curve),
        }
        for option, value in options.items():
            socket.setsockopt(option, value)
        self._monitor = monitor = self._context.socket(zmq.PAIR)
        socket.monitor(_HANDSHAKES, REFUSED | BROKEN_OFF)
        monitor.connect(_HANDSHAKES)
        socket.connect(f"tcp://{self._address}")
        self._tasks = [
            asyncio.create_task(self._watch(monitor), name="pipespec-client-handshakes"),
            asyncio.create_task(self._receive(socket), name="pipespec-client-receive"),
            asyncio.create_task(self._ping(), name="pipespec-client-ping"),
        ]
        return socket

    async def _send(self, frame: bytes) -> None:
        if self._is_closed:
            raise _closed()
        if self._socket is None:
            self._socket = self._connect()
        if self._is_refused:  # libzmq has given the address up
            self._is_refused = False
            with contextlib.suppress(zmq.ZMQError):  # it may be forgotten already
                self._socket.disconnect(f"tcp://{self._address}")
            self._socket.connect(f"tcp://{self._address}")
        try:
            await self._socket.send(frame, flags=zmq.DONTWAIT)
        except zmq.Again:
            raise unreachable(self._address, "the queue of unsent messages is full") from None

    async def _receive(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            self._heard, self._doubt = asyncio.get_running_loop().time(), ""
            try:
                request_id, event = unpack(frames[-1])
            except MalformedMessage as error:
                self._fail_all(RequestError(str(error), code="malformed_message"))
                continue
            inbox = self._inboxes.get(request_id or "")
            if inbox is not None and event is not None:
                inbox.put_nowait(event)

    async def _watch(self, monitor: zmq.asyncio.Socket) -> None:
        while True:
            event = parse_monitor_message(await monitor.recv_multipart())["event"]
            if event & REFUSED:
                self._is_refused = True
                self._fail_all(unreachable(self._address, why_refused(event, self._curve)))
            elif event & BROKEN_OFF:
                self._doubt = f"; {why_broken_off(self._curve)}"

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(min(PING_S, self._silence_s / 4))
            if not self._inboxes:
                continue
            if asyncio.get_running_loop().time() - self._heard > self._silence_s:
                self._fail_all(unreachable(self._address, f"silent for {self._silence_s:g} s{self._doubt}"))
                continue
            with contextlib.suppress(RequestError):  # a full queue shows as silence
                await self._send(pack_ping(self._inboxes.keys() - self._cancelling))

    def _fail_all(self, error: RequestError) -> None:
        for inbox in self._inboxes.values():
            inbox.put_nowait(error)


def _closed() -> RequestError:
    return RequestError("the client was closed", code="cancelled")
