"""The blocking client: the asynchronous one, driven from a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from pipespec.client.async_client import AsyncClient, AsyncStream
from pipespec.client.completion import Chunk, Completion
from pipespec.client.curve import Curve
from pipespec.client.loop_thread import LoopThread
from pipespec.client.request import Options


class Stream:
    """One generation as an iterator of chunks. Leaving it early cancels the request; see ``AsyncStream``."""

    def __init__(self, stream: AsyncStream, loop: LoopThread) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def request_id(self) -> str:
        """What ``cancel`` takes."""
        return self._stream.request_id

    @property
    def completion(self) -> Completion:
        """The whole, once the last chunk was read.

        Raises:
            RequestError: ``not_finished``.
        """
        return self._stream.completion

    def __iter__(self) -> Self:
        """Iterate over the chunks."""
        return self

    def __next__(self) -> Chunk:
        """Next chunk.

        Raises:
            RequestError: the request failed; ``Overloaded``, ``Unavailable`` and ``SessionLost`` may be retried.
        """
        chunk = self._loop.run(_next(self._stream))
        if chunk is None:
            raise StopIteration
        return chunk

    def cancel(self) -> None:
        """End the request, from any thread; the next chunk raises the error ``cancelled``."""
        self._loop.run(self._stream.cancel())

    def close(self) -> None:
        """Leave the stream; cancels the request if it runs."""
        self._loop.run(self._stream.aclose())

    def __enter__(self) -> Self:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the stream."""
        self.close()


async def _next(stream: AsyncStream) -> Chunk | None:
    return await anext(stream, None)


class Client:
    """A connection to a gateway, for any number of requests and threads at once.

    Args:
        url: ``grpc://host:port``, ``grpcs://host:port`` (over TLS), ``zmq://host:port`` or ``tcp://host:port``.
        api_key: for gRPC; needed where the gateway has keys.
        ca: for ``grpcs``: file of the authorities (PEM) to trust instead of the well-known ones.
        curve: keys, for ZeroMQ.

    Raises:
        SettingsError: the URL is of none of these forms, or one of the others does not go with it.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca: Path | None = None,
        curve: Curve | None = None,
    ) -> None:
        self._client = AsyncClient(url, api_key=api_key, ca=ca, curve=curve)
        self._loop = LoopThread()
        self._closed = False

    def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        token_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Completion:
        """Continue one prompt and wait for the whole; see ``AsyncClient.generate``."""
        return self._loop.run(
            self._client.generate(prompt, messages=messages, token_ids=token_ids, **options)
        )

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        token_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """Continue one prompt, chunk by chunk; see ``AsyncClient.stream``."""
        return Stream(
            self._client.stream(prompt, messages=messages, token_ids=token_ids, **options), self._loop
        )

    def resume(self, resume_id: str, *, timeout_s: float | None = None) -> Stream:
        """The rest of a resumable stream; see ``AsyncClient.resume``."""
        return Stream(self._client.resume(resume_id, timeout_s=timeout_s), self._loop)

    def cancel(self, request_id: str) -> None:
        """End an active request; see ``AsyncClient.cancel``."""
        self._loop.run(self._client.cancel(request_id))

    def cancel_stream(self, resume_id: str) -> None:
        """End a resumable stream; see ``AsyncClient.cancel_stream``."""
        self._loop.run(self._client.cancel_stream(resume_id))

    def close(self) -> None:
        """Cancel what runs and disconnect. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._loop.run(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()
