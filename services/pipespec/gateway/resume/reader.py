"""One client that reads a resumable stream: an asynchronous iterator of frames, used as a context manager.

Leaving it early ends nothing: the stream waits for its client to come back.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pipespec.gateway.resume.asker import RemoteStream
from pipespec.gateway.resume.log import Frame
from pipespec.gateway.resume.token import StreamToken
from pipespec.protocol.streams import StreamId

if TYPE_CHECKING:
    from pipespec.gateway.resume.service import ResumeService


class Reader(Protocol):
    """What an edge sees; ``token`` names the stream."""

    token: StreamToken

    async def __aenter__(self) -> Self:
        """Begin; takes the stream over from any other reader."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave."""

    def __aiter__(self) -> Self:
        """Iterate over the frames."""

    async def __anext__(self) -> Frame:
        """Next frame; safe to be cut short.

        Raises:
            RequestError: the stream has failed, or belongs to a newer reader; no frame follows.
        """


class LocalReader:
    """Reads a stream of this gateway."""

    def __init__(
        self,
        service: ResumeService,
        token: StreamToken,
        stream: StreamId,
        *,
        protocol: str,
        reader: int,
        index: int,
    ) -> None:
        self.token = token
        self._stream = stream
        self._service = service
        self._protocol = protocol
        self._reader = reader
        self._index = index
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin."""
        self._news = self._service.enter_local(
            self._stream, protocol=self._protocol, reader=self._reader, index=self._index
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave; the grace begins."""
        self._service.leave_local(self._stream, self._reader)

    def __aiter__(self) -> Self:
        """Iterate over the frames."""
        return self

    async def __anext__(self) -> Frame:
        """Next frame, see ``Reader``."""
        owned = self._service.owned
        while True:
            self._service.check_staying()
            frame = owned.take(self._stream, self._reader)
            if frame is not None:
                return frame
            if owned.is_complete(self._stream):
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()


class RemoteReader:
    """Reads a stream of another gateway."""

    def __init__(self, service: ResumeService, token: StreamToken, remote: RemoteStream) -> None:
        self.token = token
        self.remote = remote
        self._service = service
        self._news = service.news_of(remote)

    async def opened(self) -> None:
        """Wait until the owner has answered.

        Raises:
            RequestError: it does not know the stream, or does not answer.
        """
        while not (self.remote.is_known or self.remote.has_ended):
            self._news.clear()
            await self._news.wait()
        self.remote.check_access()

    async def __aenter__(self) -> Self:
        """Begin; the owner has let it in already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave; the owner notices by itself."""
        self._service.leave_remote(self.remote)

    def __aiter__(self) -> Self:
        """Iterate over the frames."""
        return self

    async def __anext__(self) -> Frame:
        """Next frame, see ``Reader``."""
        while True:
            self._service.ask(self.remote)
            frame = self.remote.take()
            if frame is not None:
                return frame
            if self.remote.has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
