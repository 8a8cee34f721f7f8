"""A running request: the events of all its choices as one stream.

Owns the backend streams of its choices and closes every one of them when it is left, whatever happened: the end, a
stop string, an error, the deadline, a consumer that went away. Pulls each stream by one event at a time and queues
nothing. A slow consumer does not slow decoding: committed tokens wait in the streams, ``max_tokens`` of them at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from pipespec.gateway.generation.choice import Choice, deadline_exceeded
from pipespec.gateway.generation.events import Delta, Event
from pipespec.gateway.generation.record import RequestRecord
from pipespec.ops.errors import RequestError
from pipespec.protocol.messages import EndReason

_Pull = asyncio.Task[Event | None]


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
        self._pulls: dict[_Pull, AsyncGenerator[Event]] = {}
        self._ready: deque[_Pull] = deque()
        self._closed = False
        self._reason = EndReason.CANCELLED

    async def __aenter__(self) -> Self:
        """Begin to pull."""
        for source in self._sources:
            self._pull(source)
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
        for pull in self._pulls:
            pull.cancel()
        try:
            await asyncio.gather(*self._pulls, return_exceptions=True)
            for source in self._sources:
                await source.aclose()
        finally:
            await asyncio.gather(*(choice.close(self._reason) for choice in self._choices))
            self._record.end("abandoned")
            self._on_close()

    def _pull(self, source: AsyncGenerator[Event]) -> None:
        self._pulls[asyncio.create_task(_next(source))] = source

    async def _next_event(self) -> Event | None:
        while self._pulls:
            if not self._ready:
                await self._wait()
            pull = self._ready.popleft()
            source = self._pulls.pop(pull)
            event = pull.result()
            if event is not None:
                self._pull(source)
                return event
        return None

    async def _wait(self) -> None:
        left = self._deadline - asyncio.get_running_loop().time()
        awaited: set[asyncio.Future[Any]] = {*self._pulls, self._interrupt}
        done, _ = await asyncio.wait(awaited, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        if self._interrupt.done():
            raise self._interrupt.result()
        if not done:
            self._reason = EndReason.DEADLINE
            raise deadline_exceeded()
        self._ready.extend(pull for pull in self._pulls if pull in done)


async def _next(source: AsyncGenerator[Event]) -> Event | None:
    return await anext(source, None)
