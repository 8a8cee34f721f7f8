"""Messages of the ZeroMQ edge, seen from the client; ``proto/README.md`` describes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from pipespec.client.completion import Chunk, Finished, StageReport, Started, Usage
from pipespec.client.errors import typed_error
from pipespec.client.request import Request, Resumption
from pipespec.ops.errors import MalformedMessage, RequestError

VERSION = 1


def pack_generate(request: Request) -> bytes:
    """``generate``.

    Raises:
        RequestError: a value is of a type that no message can hold.
    """
    fields: dict[str, Any] = {
        "text": request.text,
        "token_ids": request.token_ids,
        "messages": request.messages
        and [{"role": role, "content": content} for role, content in request.messages],
        "model": request.model,
        "max_tokens": request.max_tokens,
        "timeout_s": request.timeout_s,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return _pack(
            "generate",
            id=request.request_id,
            **given,
            sampling=dict(request.sampling),
            stop=request.stop,
            speculate=request.speculate,
            ignore_eos=request.ignore_eos,
            include_stats=request.include_stats,
            **({"resumable": True} if request.resumable else {}),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"a value is of the wrong type: {error}", code="invalid_value") from error


def pack_resume(resumption: Resumption) -> bytes:
    """``resume``."""
    return _pack("resume", id=resumption.request_id, resume_id=resumption.resume_id)


def pack_cancel(request_id: str, *, resume_id: str | None = None) -> bytes:
    """``cancel``."""
    named = {} if resume_id is None else {"resume_id": resume_id}
    return _pack("cancel", id=request_id, **named)


def pack_ping(request_ids: Iterable[str]) -> bytes:
    """``ping``."""
    return _pack("ping", ids=list(request_ids))


def unpack(frame: bytes) -> tuple[str | None, Started | Chunk | Finished | RequestError | None]:
    """The request that a message is about, and what it says; None and None for ``pong``.

    Raises:
        MalformedMessage: it is not of this protocol.
    """
    try:
        message = msgpack.unpackb(frame, raw=False)
        if message["v"] != VERSION:
            raise MalformedMessage(f"the gateway speaks version {message['v']}; expected {VERSION}")
        if message["type"] == "pong":
            return None, None
        return message["id"], _content(message)
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessage(f"not a message of this protocol: {error!r}") from error


def _content(message: dict[str, Any]) -> Started | Chunk | Finished | RequestError:
    match message["type"]:
        case "started":
            return Started(message["resume_id"])
        case "tokens":
            ids = tuple(message["token_ids"])
            return Chunk(message["text"], ids, message["start"], message.get("resume_id"))
        case "done":
            stages = message.get("stages", ())
            reports = sorted((StageReport(**stage) for stage in stages), key=lambda report: report.rank)
            return Finished(message["finish_reason"], Usage(**message["usage"]), tuple(reports))
        case "error":
            return typed_error(
                message["kind"],
                message["message"],
                code=message["code"],
                param=message["param"],
                retry_after_s=message["retry_after_s"],
            )
        case other:
            raise MalformedMessage(f"unknown message type {other!r}")


def _pack(type_: str, **fields: Any) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "type": type_, **fields}))
