"""A generation, or a resumable stream, as server-sent events (WHATWG HTML, section 9.2).

Ends with ``data: [DONE]`` after success and only then; after an error comes ``event: error`` instead, so that a cut
stream never looks complete. Leaves its source the moment the client is gone, also while nothing is being sent: that
ends a generation and its sessions, and begins the grace of a resumable stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipespec.gateway.generation import Event, Generation
from pipespec.gateway.openai.answers import Answer, Json
from pipespec.gateway.openai.disconnect import disconnected
from pipespec.gateway.openai.errors import error_body, internal_error
from pipespec.gateway.resume import Frame, Reader
from pipespec.ops.errors import RequestError

KEEP_ALIVE_S = 15.0
STALLED_CLIENT_S = 30.0
"""A client that reads nothing for this long is given up; its sessions hold memory on every stage."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_log = structlog.get_logger(__name__)


STREAM = "x-pipespec-stream"
"""Header that names a resumable stream."""

Said = TypeVar("Said", Event, Frame)


class FrameRenderer:
    """Words the events of a resumable stream, once, for all who will read it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def frames(self, event: Event) -> Iterable[bytes]:
        """See ``Renderer``."""
        return map(_packed, self._answer.chunks(event))

    def last_frames(self) -> Iterable[bytes]:
        """See ``Renderer``."""
        return map(_packed, self._answer.last_chunks())


class EventStream(Response, Generic[Said]):
    """The answer to a request with ``stream``.

    Args:
        source: a generation, or a reader of a resumable stream; owned from here on.
        wording: of what it says, as one or more events; empty when there is nothing to say yet.
        last: events before ``[DONE]``.
        request_id: for the error body.
        keep_alive_s: a comment is sent when nothing else was for this long.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AbstractAsyncContextManager[AsyncIterator[Said], None],
        *,
        wording: Callable[[Said], bytes],
        last: Callable[[], bytes],
        request_id: str,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._source: AbstractAsyncContextManager[AsyncIterator[Said], None] = source
        self._wording: Callable[[Said], bytes] = wording
        self._last = last
        self._request_id = request_id
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        """Send until the end, or until the client is gone."""
        async with self._source as said:
            sender = asyncio.create_task(self._send(said, send))
            watcher = asyncio.create_task(disconnected(receive))
            try:
                await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sender, watcher):
                    task.cancel()
                await asyncio.gather(sender, watcher, return_exceptions=True)
        if not sender.cancelled() and (error := sender.exception()) is not None:
            raise error

    async def _send(self, said: AsyncIterator[Said], send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces(said):
            try:
                async with asyncio.timeout(STALLED_CLIENT_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                _log.warning("client_stalled", request_id=self._request_id)
                return  # without the last chunk: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self, said: AsyncIterator[Said]) -> AsyncIterator[bytes]:
        try:
            async for event in self._with_pauses(said):
                if event is None:
                    yield b": keep-alive\n\n"
                elif piece := self._wording(event):
                    yield piece
            yield self._last() + b"data: [DONE]\n\n"
        except RequestError as error:
            yield b"event: error\n" + _data(error_body(error, request_id=self._request_id))
        except Exception:  # noqa: BLE001 - the status is sent: a bug of ours can only be told in the stream
            _log.exception("stream_failed", request_id=self._request_id)
            yield b"event: error\n" + _data(error_body(internal_error(), request_id=self._request_id))

    async def _with_pauses(self, said: AsyncIterator[Said]) -> AsyncIterator[Said | None]:
        """Events; None where none came for ``keep_alive_s``."""
        while True:
            try:
                # Safe to cut short: the next call waits for the same pulls.
                async with asyncio.timeout(self._keep_alive_s):
                    event = await anext(said)
            except TimeoutError:
                yield None
            except StopAsyncIteration:
                return
            else:
                yield event


def live(
    generation: Generation, *, answer: Answer, request_id: str, keep_alive_s: float
) -> EventStream[Event]:
    """A stream that ends with its client's connection."""
    return EventStream(
        generation,
        wording=lambda event: b"".join(map(_data, answer.chunks(event))),
        last=lambda: b"".join(map(_data, answer.last_chunks())),
        request_id=request_id,
        keep_alive_s=keep_alive_s,
    )


def resumable(reader: Reader, *, request_id: str, keep_alive_s: float) -> EventStream[Frame]:
    """A stream that its client may leave and resume: a header names it, and every event has an id."""
    token = reader.token
    response = EventStream(
        reader,
        wording=lambda frame: b"id: %b\ndata: %b\n\n" % (token.event(frame.index).encode(), frame.content),
        last=bytes,
        request_id=request_id,
        keep_alive_s=keep_alive_s,
    )
    response.headers[STREAM] = str(token)
    return response


def _data(document: Json) -> bytes:
    return b"data: %b\n\n" % _packed(document)


def _packed(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
