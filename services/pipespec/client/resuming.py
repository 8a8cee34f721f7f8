"""One stream over as many connections as it takes: goes on after the last event whenever the connection is lost.

Only a resumable stream can go on, and only after the gateway has named it. Attempts are bounded and wait longer each
time; an event that comes begins the count anew. Errors that the gateway itself tells are final.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pipespec.client.completion import Chunk, Finished, Started
from pipespec.client.request import Request, Resumption
from pipespec.client.transport import Transport
from pipespec.ops.errors import RequestError

MAX_ATTEMPTS = 12
"""In a row without an event; with the waits below about 17 s."""
FIRST_WAIT_S = 0.05
MAX_WAIT_S = 2.0
_LOST = frozenset({"gateway_unreachable", "request_not_found", "relay_shutting_down"})
"""The connection is lost, the gateway has noticed that before us, or it ends and holds nothing of the stream."""


class ResumingEvents:
    """Events of a request, or of the rest of one.

    Attributes:
        resume_id: what goes on after the last event; None as long as the stream cannot be resumed.
    """

    def __init__(self, transport: Transport, request: Request | Resumption) -> None:
        self.resume_id = request.resume_id if isinstance(request, Resumption) else None
        self._transport = transport
        self._request = request

    async def events(self) -> AsyncGenerator[Chunk | Finished]:
        """Chunks, then ``Finished``; closing the iterator early cancels the request.

        Raises:
            RequestError: the request failed, or the gateway could not be reached again.
        """
        loop = asyncio.get_running_loop()
        timeout_s, began_s = self._request.timeout_s, loop.time()
        request, attempts = self._request, 0
        while True:
            events = self._transport.events(request)
            try:
                async for event in events:
                    if isinstance(event, Started):
                        self.resume_id = self.resume_id or event.resume_id
                        continue
                    attempts = 0
                    if isinstance(event, Chunk):
                        self.resume_id = event.resume_id or self.resume_id
                    yield event
            except RequestError as error:
                if self.resume_id is None or error.code not in _LOST or attempts == MAX_ATTEMPTS:
                    raise
            else:
                return
            finally:
                await events.aclose()
            await asyncio.sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2**attempts))
            attempts += 1
            left_s = None if timeout_s is None else max(0.001, timeout_s - (loop.time() - began_s))
            request = Resumption(resume_id=self.resume_id, timeout_s=left_s)
