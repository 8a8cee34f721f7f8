"""One HTTP connection: uvicorn's, with the deadlines and the words that it lacks.

A connection has a bounded time for everything that the client has to send: the first and every further request head, and the
rest of a body, also of one that was answered already. What is no HTTP is answered in OpenAI's form, and the connection
closed.
"""

from __future__ import annotations

import asyncio
import http
import sys
from enum import Enum, auto

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipespec.gateway.generation import new_request_id
from pipespec.gateway.openai.errors import error_response
from pipespec.ops.errors import RequestError, Unavailable

MAX_CONNECTIONS = 1024
MAX_HEAD = 16 * 1024
"""Bytes of a request line and all headers."""
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 12.0
"""A little more than reading a body may take, so that whoever reads it can say so."""
LINGER_S = 1.0
"""What a client goes on sending after a refusal is thrown away for so long: closing at once would reset the connection,
and the client would never read why."""


class _Waiting(Enum):
    HEAD = auto()
    BODY = auto()
    NEXT = auto()
    """Request; uvicorn forgets the time when the rest of a body comes after its answer."""


class Connection(H11Protocol):
    """A server's protocol for one connection."""

    _waiting: tuple[_Waiting, object] | None = None
    """For what of the client's, and of which request."""
    _deadline: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for a request, where there is room for one more connection."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            too_many = f"{MAX_CONNECTIONS} connections are open; no more are taken"
            self._refuse(Unavailable(too_many, code="too_many_connections"))
            self.transport.close()  # at once: there is no room for it
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle what came."""
        if not (self._is_refused or self.transport.is_closing()):
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; ``h11`` knows the status."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            self._refuse(
                RequestError(f"the headers are larger than {MAX_HEAD} bytes", code="headers_too_large")
            )
        else:
            self._refuse(RequestError(msg, code="invalid_http"))

    def shutdown(self) -> None:
        """End with the server: at once what was refused, else after the running request."""
        if self._is_refused:
            self.transport.close()
        else:
            super().shutdown()

    def _watch(self) -> None:
        """Start, keep or end the time that the client has."""
        waiting = self._waits_for()
        if waiting == self._waiting:
            return
        self._stop_waiting()
        self._waiting = waiting
        if waiting is not None:
            timeouts = {
                _Waiting.HEAD: HEAD_TIMEOUT_S,
                _Waiting.BODY: BODY_TIMEOUT_S,
                _Waiting.NEXT: self.timeout_keep_alive,
            }
            self._deadline = self.loop.call_later(timeouts[waiting[0]], self._expire)

    def _waits_for(self) -> tuple[_Waiting, object] | None:
        if self._is_refused or self.transport.is_closing():
            return None
        if self.conn.their_state is h11.SEND_BODY:
            return (_Waiting.BODY, self.cycle)
        if self.conn.their_state is not h11.IDLE:
            return None
        has_begun = self.cycle is None or self.conn.trailing_data[0]
        return (_Waiting.HEAD if has_begun else _Waiting.NEXT, self.cycle)

    def _stop_waiting(self) -> None:
        self._waiting = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self.conn.trailing_data[0] or self.conn.our_state is h11.SEND_RESPONSE:
            self._refuse(RequestError("the request did not arrive in time", code="body_timeout"))
        else:
            self.transport.abort()

    def _refuse(self, error: RequestError) -> None:
        """Answer, where an answer can still be given, and close as soon as the client has had time to read it."""
        self._is_refused = True
        self._stop_waiting()
        if self.cycle is not None:  # whoever works on the request learns that the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        request_id = new_request_id()
        response = error_response(error, request_id=request_id)
        headers = [
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        reason = http.HTTPStatus(response.status_code).phrase.encode()
        try:
            for event in (
                h11.Response(status_code=response.status_code, headers=headers, reason=reason),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer was on its way
            self.transport.abort()
            return
        self._deadline = self.loop.call_later(LINGER_S, self.transport.close)
        if self.transport.can_write_eof():
            self.transport.write_eof()
