"""What every HTTP request passes first: request id, bounded headers, one way to tell where the body ends.

Pure ASGI, around the whole application, so that it also sees what routing refuses.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipespec.gateway.generation import new_request_id
from pipespec.gateway.generation.request import is_request_id
from pipespec.gateway.openai.connection import MAX_HEAD
from pipespec.gateway.openai.errors import error_response
from pipespec.ops.errors import RequestError

REQUEST_ID = "x-request-id"
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


class Border:
    """Wraps an application; puts ``request_id`` into the request's state and echoes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if is_request_id(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        refusal = _refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send_with_id)
            return
        response = error_response(refusal, request_id=request_id)
        response.headers["connection"] = "close"
        await response(scope, receive, send_with_id)


def _refusal(scope: Scope, headers: Headers) -> RequestError | None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    # Each with ": " and the end of its line, as the connection counts them when they come in pieces.
    size += sum(len(name) + len(value) + 4 for name, value in headers.raw)
    if size > MAX_HEAD:
        return RequestError(f"the headers are larger than {MAX_HEAD} bytes", code="headers_too_large")
    if "content-length" in headers and "transfer-encoding" in headers:
        return RequestError("content-length and transfer-encoding are both given; expected one of them")
    if not _HOST.fullmatch(headers.get("host", "")):
        return RequestError("the host header is missing or malformed")
    return None
