"""Messages of the ZeroMQ edge: strict on arrival, plain maps on the way out. The package's docstring lists them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipespec.gateway.generation import (
    ChatPrompt,
    Delta,
    Event,
    GenerationRequest,
    Prompt,
    TextPrompt,
    TokenPrompt,
)
from pipespec.gateway.generation.request import DEFAULT_TEMPERATURE
from pipespec.gateway.resume import Frame, StreamToken
from pipespec.gateway.text import ChatMessage
from pipespec.ops.errors import MalformedMessage, Overloaded, RequestError, SessionLost, Unavailable
from pipespec.protocol.ids import TokenId
from pipespec.protocol.sampling import MAX_LOGIT_BIAS, Sampling

VERSION = 1
MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes."""
MAX_PING_IDS = 1024
MALFORMED = "malformed_message"
"""Code of the error that answers what is no message at all; wrong fields have other codes."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SamplingFields(_Message):
    """``generate.sampling``; ranges are checked by ``Sampling``."""

    temperature: float = DEFAULT_TEMPERATURE
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = Field(default={}, max_length=MAX_LOGIT_BIAS)

    def to_sampling(self) -> Sampling:
        """The same, checked."""
        values = self.model_dump(exclude={"seed", "logit_bias"})
        return Sampling(**values, logit_bias=tuple(sorted(self.logit_bias.items())))


class MessageFields(_Message):
    """One of ``generate.messages``."""

    role: Literal["system", "user", "assistant"]
    content: str


class Generate(_Message):
    """``generate``."""

    v: Literal[1]
    type: Literal["generate"]
    id: Id
    model: str | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    messages: list[MessageFields] | None = Field(default=None, min_length=1)
    max_tokens: int | None = None
    sampling: SamplingFields = SamplingFields()
    stop: list[str] = []
    speculate: bool = True
    ignore_eos: bool = False
    include_stats: bool = False
    timeout_s: float | None = None
    resumable: bool = False

    def to_request(self) -> GenerationRequest:
        """The same in the gateway's own words. Its request id is another one: ids of clients may be equal.

        Raises:
            RequestError: a value is out of range.
        """
        return GenerationRequest(
            prompts=(self._prompt(),),
            sampling=self.sampling.to_sampling(),
            max_tokens=self.max_tokens,
            seed=self.sampling.seed,
            stop=tuple(self.stop),
            speculate=self.speculate,
            ignore_eos=self.ignore_eos,
            include_stats=self.include_stats,
            timeout_s=self.timeout_s,
        )

    def _prompt(self) -> Prompt:
        given = [name for name in ("text", "token_ids", "messages") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RequestError(
                f"expected one of text, token_ids and messages, got {' and '.join(given) or 'none'}",
                code="invalid_value",
                param="prompt",
            )
        if self.text is not None:
            return TextPrompt(self.text)
        if self.token_ids is not None:
            return TokenPrompt(tuple(TokenId(token) for token in self.token_ids))
        return ChatPrompt(
            tuple(ChatMessage(message.role, message.content) for message in self.messages or ())
        )


class Cancel(_Message):
    """``cancel``."""

    v: Literal[1]
    type: Literal["cancel"]
    id: Id
    resume_id: str | None = None


class Resume(_Message):
    """``resume``."""

    v: Literal[1]
    type: Literal["resume"]
    id: Id
    resume_id: str


class Ping(_Message):
    """``ping``."""

    v: Literal[1]
    type: Literal["ping"]
    ids: list[Id] = Field(default=[], max_length=MAX_PING_IDS)


Request = Annotated[Generate | Resume | Cancel | Ping, Field(discriminator="type")]
_REQUEST: TypeAdapter[Generate | Resume | Cancel | Ping] = TypeAdapter(Request)


class BadMessage(MalformedMessage):
    """A message that is not of this protocol.

    Attributes:
        request_id: of the message, where it has one.
        answer: what the client is told.
    """

    def __init__(self, answer: RequestError, *, request_id: str | None = None) -> None:
        super().__init__(str(answer))
        self.request_id = request_id
        self.answer = answer


def unpack(frames: Sequence[bytes]) -> Generate | Resume | Cancel | Ping:
    """The message in ``frames``, which must be one.

    Raises:
        BadMessage: it is not msgpack, not a known message, or has a wrong field.
    """
    if len(frames) != 1:
        raise BadMessage(RequestError(f"expected 1 frame, got {len(frames)}", code=MALFORMED))
    try:
        document = msgpack.unpackb(
            frames[0], raw=False, strict_map_key=False, object_pairs_hook=_unique_keys, ext_hook=_no_extension
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise BadMessage(RequestError(f"not a msgpack map: {error}", code=MALFORMED)) from error
    if not isinstance(document, dict):
        raise BadMessage(
            RequestError(f"expected a msgpack map, got {type(document).__name__}", code=MALFORMED)
        )
    try:
        return _REQUEST.validate_python(document)
    except ValidationError as error:
        request_id = document.get("id")
        raise BadMessage(
            _refusal(error), request_id=request_id if isinstance(request_id, str) else None
        ) from error


def pack_event(request_id: str, event: Event) -> bytes:
    """``tokens`` or ``done``."""
    if isinstance(event, Delta):
        return _pack("tokens", id=request_id, start=event.start, token_ids=event.token_ids, text=event.text)
    stages = {} if event.stats is None else {"stages": [_stage(stage) for stage in event.stats]}
    return _pack(
        "done", id=request_id, finish_reason=event.finish_reason.value, usage=asdict(event.usage), **stages
    )


class FrameRenderer:
    """Words the events of a resumable stream, once, for all who will read it."""

    def frames(self, event: Event) -> Iterable[bytes]:
        """See ``Renderer``."""
        return (pack_event("", event),)

    def last_frames(self) -> Iterable[bytes]:
        """See ``Renderer``."""
        return ()


def pack_frame(request_id: str, token: StreamToken, frame: Frame) -> bytes:
    """``tokens`` or ``done`` of a resumable stream, for the request that reads it.

    ``done`` has no name: whoever resumes after it gets it again, so that the end is never silent.
    """
    message = {**msgpack.unpackb(frame.content), "id": request_id}
    if message["type"] == "tokens":
        message["resume_id"] = token.event(frame.index)
    return bytes(msgpack.packb(message))


def is_last(frame: Frame) -> bool:
    """Whether a frame is ``done``."""
    return bool(msgpack.unpackb(frame.content)["type"] == "done")


def pack_started(request_id: str, token: StreamToken) -> bytes:
    """``started``."""
    return _pack("started", id=request_id, resume_id=str(token))


def pack_error(request_id: str | None, error: RequestError) -> bytes:
    """``error``."""
    return _pack(
        "error",
        id=request_id,
        code=error.code,
        message=str(error),
        param=error.param,
        kind=_kind(error),
        retry_after_s=error.retry_after_s,
    )


def pack_pong(*, model: str, ready: bool) -> bytes:
    """``pong``."""
    return _pack("pong", model=model, ready=ready)


_KINDS: tuple[tuple[type[RequestError], str], ...] = (
    (Overloaded, "overloaded"),
    (Unavailable, "unavailable"),
    (SessionLost, "lost"),
)


def _kind(error: RequestError) -> str:
    if error.code == "internal_error":
        return "failed"
    return next((word for kind, word in _KINDS if isinstance(error, kind)), "invalid")


def _stage(stage: Any) -> dict[str, Any]:
    return {"rank": stage.rank, "name": stage.name, **asdict(stage.counters)}


def _pack(type_: str, **fields: Any) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "type": type_, **fields}))


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document


def _no_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of this protocol")


def _refusal(error: ValidationError) -> RequestError:
    problem = error.errors(include_url=False)[0]
    # The first part of the location is the message type, which the discriminator puts there.
    param = ".".join(str(part)[:80] for part in problem["loc"][1:]) or "type"
    if problem["type"] == "extra_forbidden":
        return RequestError(
            f"{param} is not supported; leave it out", code="unsupported_parameter", param=param
        )
    code = "missing_required_parameter" if problem["type"] == "missing" else "invalid_value"
    return RequestError(f"{param}: {problem['msg']}", code=code, param=param)
