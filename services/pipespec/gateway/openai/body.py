"""Reads a request's body: bounded in size and time, and in sum over all requests; strict JSON, then the endpoint's schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from pipespec.gateway.gate import Arriving
from pipespec.gateway.openai.strict_json import parse_json
from pipespec.gateway.openai.unsupported import drop_inert
from pipespec.ops.errors import RequestError

MAX_BODY = 2 * 1024 * 1024
"""Bytes."""
READ_TIMEOUT_S = 10.0

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, schema: type[Body], *, arriving: Arriving) -> Body:
    """The checked body.

    Args:
        request: it belongs to.
        schema: of the endpoint.
        arriving: counts it while it is read and parsed.

    Raises:
        Overloaded: too much of other bodies is being read at the moment.
        RequestError: it is not JSON, too large, too slow, or not what ``schema`` says; ``param`` names the field.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestError(
            f"content-type is {media_type[:80] or 'missing'!r}; expected application/json",
            code="unsupported_media_type",
        )
    with arriving.body() as take:
        return _checked(await _read(request, take), schema)


def _checked(raw: bytes, schema: type[Body]) -> Body:
    document = parse_json(raw)
    if not isinstance(document, dict):
        raise RequestError(
            f"the body is a JSON {type(document).__name__}; expected an object", code="invalid_json"
        )
    try:
        return schema.model_validate(drop_inert(document))
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0]) from error


async def _read(request: Request, take: Callable[[int], None]) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_BODY:
                    raise RequestError(f"the body is larger than {MAX_BODY} bytes", code="body_too_large")
                take(len(chunk))
                body += chunk
    except TimeoutError:
        raise RequestError(
            f"the body did not arrive within {READ_TIMEOUT_S:g} s", code="body_timeout"
        ) from None
    return bytes(body)


def _refusal(problem: ErrorDetails) -> RequestError:
    param = _param(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return RequestError(
            f"{param} is not supported; leave it out", code="unsupported_parameter", param=param
        )
    if problem["type"] == "missing":
        return RequestError(f"{param} is required", code="missing_required_parameter", param=param)
    message = problem["msg"].removeprefix("Value error, ")
    return RequestError(
        f"{param} is {_shown(problem['input'])}: {message}", code="invalid_value", param=param
    )


def _param(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in loc)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
