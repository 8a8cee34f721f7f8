"""A running request: the events of all its choices as one stream.

Owns the backend streams of its choices and closes every one of them when it is left, whatever happened: the end, a
stop string, an error, the deadline, a consumer that went away. One task per choice brings its events and pauses while
``BUFFERED`` bytes wait for a slow consumer. Decoding does not pause: beyond the buffer its tokens wait as ids, of which
``max_tokens`` was counted at the gate. Deadline and interrupt end the iteration at once, whatever waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Self

from pipespec.gateway.generation.choice import Choice, deadline_exceeded
from pipespec.gateway.generation.events import Delta, Event
from pipespec.gateway.generation.record import RequestRecord
from pipespec.ops.errors import RequestError
from pipespec.protocol.messages import EndReason

BUFFERED = 64 * 1024
"""Bytes of events, of all choices together, that wait for the consumer; a choice may exceed it by one event."""
_EVENT_BYTES = 256
"""Of an event beside its text and tokens, roughly."""


class Generation:
    """An asynchronous iterator of events and a context manager; use it as both, once.

    Args:
        choices: open.
        deadline: of the event loop's clock, in seconds.
        interrupt: ends the iteration as soon as it has a result, with that error.
        record: told of tokens and of the end.
        on_close: called once, when everything is closed.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        *,
        deadline: float,
        interrupt: asyncio.Future[RequestError],
        record: RequestRecord,
        on_close: Callable[[], None],
    ) -> None:
        self._choices = choices
        self._sources = [choice.events() for choice in choices]
        self._deadline = deadline
        self._interrupt = interrupt
        self._record = record
        self._on_close = on_close
        self._timer: asyncio.TimerHandle | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._waiting: deque[Event] = deque()
        self._num_bytes = 0
        self._drained = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False
        self._reason = EndReason.CANCELLED

    async def __aenter__(self) -> Self:
        """Begin to pull."""
        self._timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)
        self._interrupt.add_done_callback(lambda _: self._news.set())
        self._pumps = [asyncio.create_task(self._pump(source)) for source in self._sources]
        for pump in self._pumps:
            pump.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all that is still open."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Iterate over the events of all choices."""
        return self

    async def __anext__(self) -> Event:
        """Next event of any choice.

        Raises:
            RequestError: a choice failed, the deadline passed or the request was cancelled; no event follows.
        """
        try:
            event = await self._next_event()
        except RequestError as error:
            self._record.end(error.code)
            raise
        if event is None:
            self._record.end("ok")
            raise StopAsyncIteration
        if isinstance(event, Delta) and event.token_ids:
            self._record.tokens(len(event.token_ids))
        return event

    async def aclose(self) -> None:
        """Close the sessions of all choices, with the reason; those that have ended stay as they ended."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for pump in self._pumps:
            pump.cancel()
        try:
            await asyncio.gather(*self._pumps, return_exceptions=True)
            for source in self._sources:
                await source.aclose()
        finally:
            await asyncio.gather(*(choice.close(self._reason) for choice in self._choices))
            self._record.end("abandoned")
            self._on_close()

    async def _pump(self, source: AsyncGenerator[Event]) -> None:
        async for event in source:
            self._waiting.append(event)
            self._num_bytes += _num_bytes(event)
            self._news.set()
            while self._num_bytes > BUFFERED:
                self._drained.clear()
                await self._drained.wait()

    def _expire(self) -> None:
        if not self._interrupt.done():
            self._reason = EndReason.DEADLINE
            self._interrupt.set_result(deadline_exceeded())

    async def _next_event(self) -> Event | None:
        while True:
            if self._interrupt.done():
                raise self._interrupt.result()
            if self._waiting:
                event = self._waiting.popleft()
                self._num_bytes -= _num_bytes(event)
                self._drained.set()
                return event
            ended = [pump for pump in self._pumps if pump.done()]
            for pump in ended:
                pump.result()
            if len(ended) == len(self._pumps):
                return None
            self._news.clear()
            await self._news.wait()


def _num_bytes(event: Event) -> int:
    if not isinstance(event, Delta):
        return _EVENT_BYTES
    return _EVENT_BYTES + 4 * len(event.text) + 8 * len(event.token_ids)
