"""Requests over gRPC: ``pipespec.v1.Generation``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from pipespec.client.completion import Chunk, Finished, StageReport, Started, Usage
from pipespec.client.errors import typed_error, unreachable
from pipespec.client.request import Request, Resumption
from pipespec.ops.errors import RequestError, SettingsError
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

_MAX_MESSAGE = 4 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 60_000),
    # A lost connection comes back quickly, or a resumable stream would wait for it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
_STREAM = "pipespec-stream"
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""Statuses that gRPC itself gives to a call whose connection is lost."""
_KINDS = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
}
_FINISH = {pb.FINISH_REASON_STOP: "stop", pb.FINISH_REASON_LENGTH: "length"}


class GrpcTransport:
    """A channel.

    Args:
        address: ``host:port``.
        tls: encrypt, and check who answers.
        ca: file of the authorities to trust; None takes the well-known ones.
        api_key: sent with every call.

    Raises:
        SettingsError: ``ca`` cannot be read, or ``api_key`` cannot be sent.
    """

    def __init__(
        self, address: str, *, tls: bool = False, ca: Path | None = None, api_key: str | None = None
    ) -> None:
        self._address = address
        self._credentials = _credentials(ca) if tls else None
        self._metadata = _metadata(api_key)

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        # Binds to the running event loop, so not before there is one.
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        return grpc.aio.secure_channel(self._address, self._credentials, options=_OPTIONS)

    @cached_property
    def _stub(self) -> Any:
        return pipespec_pb2_grpc.GenerationStub(self._channel)

    async def events(self, request: Request | Resumption) -> AsyncGenerator[Started | Chunk | Finished]:
        """See ``Transport``."""
        if isinstance(request, Resumption):
            message = pb.ResumeRequest(resume_id=request.resume_id)
            call = self._stub.Resume(message, timeout=request.timeout_s, metadata=self._metadata)
        else:
            call = self._stub.Generate(_message(request), timeout=request.timeout_s, metadata=self._metadata)
        stream, is_over = None, False
        try:
            for key, value in await call.initial_metadata() or ():
                if key == _STREAM:
                    stream = str(value)
                    yield Started(stream)
            async for response in call:
                yield _event(response)
            is_over = True
        except grpc.aio.AioRpcError as error:
            is_over = error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            raise self._typed(error) from error
        finally:
            call.cancel()
            if stream is not None and not is_over:  # a call that is only cancelled leaves it running
                with contextlib.suppress(RequestError):
                    await self.cancel_stream(stream)

    async def cancel(self, request_id: str) -> None:
        """See ``Transport``. Reaches requests of other connections too, where they have a key of the same owner."""
        try:
            await self._stub.Cancel(pb.CancelRequest(request_id=request_id), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise self._typed(error) from error

    async def cancel_stream(self, resume_id: str) -> None:
        """See ``Transport``."""
        try:
            await self._stub.Cancel(pb.CancelRequest(resume_id=resume_id), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise self._typed(error) from error

    async def close(self) -> None:
        """See ``Transport``."""
        if "_channel" in self.__dict__:
            await self._channel.close(None)

    def _typed(self, error: grpc.aio.AioRpcError) -> RequestError:
        status, message = error.code(), error.details() or ""
        metadata: Any = error.trailing_metadata() or ()  # pairs; the stubs do not know
        trailers = {key: str(value) for key, value in metadata}
        code = trailers.get("pipespec-code")
        if status in _LOST and code is None:
            return unreachable(self._address, message)
        retry_after_ms = trailers.get("pipespec-retry-after-ms")
        return typed_error(
            "lost" if code and code.startswith("session_") else _KINDS.get(status, "invalid"),
            message,
            code=code or status.name.lower(),
            param=trailers.get("pipespec-param"),
            retry_after_s=None if retry_after_ms is None else int(retry_after_ms) / 1000,
        )


def _credentials(ca: Path | None) -> grpc.ChannelCredentials:
    try:
        roots = None if ca is None else ca.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read the authorities in {ca}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(root_certificates=roots)


def _metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    if api_key is None:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):  # and not shown: it is a secret
        raise SettingsError("the API key has characters that no key has; expected printable ASCII")
    return (("authorization", f"Bearer {api_key}"),)


def _message(request: Request) -> pb.GenerateRequest:
    prompt: dict[str, Any] = {}
    if request.text is not None:
        prompt["text"] = request.text
    elif request.token_ids is not None:
        prompt["token_ids"] = {"ids": request.token_ids}
    elif request.messages is not None:
        prompt["chat"] = {
            "messages": [{"role": role, "content": content} for role, content in request.messages]
        }
    try:
        return pb.GenerateRequest(
            **prompt,
            request_id=request.request_id,
            model=request.model or "",
            max_tokens=request.max_tokens,
            sampling=pb.Sampling(**request.sampling),
            stop=request.stop,
            speculate=request.speculate,
            ignore_eos=request.ignore_eos,
            include_stats=request.include_stats,
            resumable=request.resumable,
        )
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"a value is of the wrong type or out of range: {error}", code="invalid_value"
        ) from error


def _event(response: pb.GenerateResponse) -> Chunk | Finished:
    if response.WhichOneof("event") == "delta":
        delta = response.delta
        return Chunk(delta.text, tuple(delta.token_ids), delta.start, response.resume_id or None)
    completed = response.completed
    names = [field.name for field in fields(StageReport)]
    return Finished(
        _FINISH.get(completed.finish_reason, "unknown"),
        Usage(completed.usage.prompt_tokens, completed.usage.completion_tokens),
        tuple(StageReport(**{name: getattr(stage, name) for name in names}) for stage in completed.stages),
    )
