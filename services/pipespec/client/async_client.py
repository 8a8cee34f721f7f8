"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from pipespec.client.completion import Chunk, Completion, Finished
from pipespec.client.curve import Curve
from pipespec.client.ordering import Sequencer
from pipespec.client.request import Options, Request, Resumption
from pipespec.client.resuming import ResumingEvents
from pipespec.client.transport import Transport, connect
from pipespec.ops.errors import RequestError, SessionLost


class AsyncStream:
    """One generation as an asynchronous iterator of chunks. Leaving it early cancels the request.

    Use it as a context manager where it may be left early: cancelling is then immediate. One that is resumable connects
    again by itself when the connection is lost.
    """

    def __init__(self, transport: Transport, request: Request | Resumption) -> None:
        self.request_id = request.request_id
        self._transport = transport
        self._source = ResumingEvents(transport, request)
        self._chunks = self._run(request)
        self._completion: Completion | None = None

    @property
    def completion(self) -> Completion:
        """The whole, once the last chunk was read.

        Raises:
            RequestError: ``not_finished``.
        """
        if self._completion is None:
            raise RequestError("the stream has not been read to its end", code="not_finished")
        return self._completion

    def __aiter__(self) -> Self:
        """Iterate over the chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """Next chunk.

        Raises:
            RequestError: the request failed; ``Overloaded``, ``Unavailable`` and ``SessionLost`` may be retried.
        """
        return await anext(self._chunks)

    async def cancel(self) -> None:
        """End the request; the next chunk raises the error ``cancelled``."""
        if self._source.resume_id is not None:
            await self._transport.cancel_stream(self._source.resume_id)
        else:
            await self._transport.cancel(self.request_id)

    async def aclose(self) -> None:
        """Leave the stream; cancels the request if it runs."""
        await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        """The stream itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the stream."""
        await self.aclose()

    async def _run(self, request: Request | Resumption) -> AsyncGenerator[Chunk]:
        order = Sequencer(None if isinstance(request, Resumption) else 0)
        chunks = list[Chunk]()
        events = self._source.events()
        try:
            async for event in events:
                if isinstance(event, Finished):
                    self._completion = _complete(request, chunks, event)
                elif order.accept(event):
                    chunks.append(event)
                    yield event
        finally:
            await events.aclose()
        if self._completion is None:
            raise SessionLost("the stream ended before its last token", code="session_lost")
        if order.expected not in (None, self._completion.usage.completion_tokens):
            raise SessionLost(
                f"the gateway sent {self._completion.usage.completion_tokens} tokens, got {order.expected}",
                code="sequence_gap",
            )


def _complete(request: Request | Resumption, chunks: Sequence[Chunk], finished: Finished) -> Completion:
    return Completion(
        request_id=request.request_id,
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        finish_reason=finished.finish_reason,
        usage=finished.usage,
        stats=finished.stats,
    )


class AsyncClient:
    """A connection to a gateway, for any number of requests at once.

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
        self._transport = connect(url, api_key=api_key, ca=ca, curve=curve)

    async def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        token_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Completion:
        """Continue one prompt and wait for the whole.

        Args:
            prompt: raw text; or
            messages: a conversation, ``{"role", "content"}`` each; or
            token_ids: a tokenized prompt.
            **options: see ``Options``.

        Raises:
            RequestError: the request failed; ``Overloaded``, ``Unavailable`` and ``SessionLost`` may be retried.
        """
        async with self.stream(prompt, messages=messages, token_ids=token_ids, **options) as stream:
            async for _ in stream:
                pass
            return stream.completion

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        token_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """Continue one prompt, chunk by chunk; the request is sent when the first chunk is asked for.

        Raises:
            RequestError: not exactly one prompt is given.
        """
        request = Request.of(prompt, messages=messages, token_ids=token_ids, options=options)
        return AsyncStream(self._transport, request)

    def resume(self, resume_id: str, *, timeout_s: float | None = None) -> AsyncStream:
        """The rest of a resumable stream, also of another client or process; its completion holds the rest alone.

        Args:
            resume_id: of the last chunk that was received.
            timeout_s: bounds the rest; None leaves it to the gateway.
        """
        return AsyncStream(self._transport, Resumption(resume_id=resume_id, timeout_s=timeout_s))

    async def cancel(self, request_id: str) -> None:
        """End an active request.

        Raises:
            RequestError: ``request_not_found``.
        """
        await self._transport.cancel(request_id)

    async def cancel_stream(self, resume_id: str) -> None:
        """End a resumable stream, also one that nobody reads.

        Raises:
            RequestError: ``resume_expired``.
        """
        await self._transport.cancel_stream(resume_id)

    async def close(self) -> None:
        """Cancel what runs and disconnect."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.close()
