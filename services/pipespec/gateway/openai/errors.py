"""Errors in OpenAI's form, ``{"error": {"message", "type", "param", "code", "request_id"}}``.

The one place that knows which code is which HTTP status.
"""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

from pipespec.ops.errors import Overloaded, RequestError, SessionLost, Unavailable

CLIENT_CLOSED_REQUEST = 499
"""Nobody reads it; it is for logs and metrics."""

_RETRY_AFTER_S = 1.0

_BY_CODE: dict[str, tuple[int, str]] = {
    "invalid_api_key": (401, "authentication_error"),
    "model_not_allowed": (403, "permission_error"),
    "model_not_found": (404, "invalid_request_error"),
    "not_found": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "body_timeout": (408, "invalid_request_error"),
    "request_id_active": (409, "invalid_request_error"),
    "resumed_elsewhere": (409, "invalid_request_error"),
    "resume_expired": (410, "invalid_request_error"),
    "body_too_large": (413, "invalid_request_error"),
    "unsupported_media_type": (415, "invalid_request_error"),
    "headers_too_large": (431, "invalid_request_error"),
    "cancelled": (CLIENT_CLOSED_REQUEST, "cancelled_error"),
    "internal_error": (500, "server_error"),
    "deadline_exceeded": (504, "timeout_error"),
}
_BY_CLASS: dict[type[RequestError], tuple[int, str]] = {
    Overloaded: (429, "rate_limit_error"),
    Unavailable: (503, "service_unavailable_error"),
    SessionLost: (503, "service_unavailable_error"),
}
_REFUSED = (400, "invalid_request_error")


def status_of(error: RequestError) -> int:
    """HTTP status of an error."""
    return _entry(error)[0]


def error_body(error: RequestError, *, request_id: str) -> dict[str, Any]:
    """The body, also the ``data`` of an ``error`` event in a stream."""
    return {
        "error": {
            "message": str(error),
            "type": _entry(error)[1],
            "param": error.param,
            "code": error.code,
            "request_id": request_id,
        }
    }


def error_response(error: RequestError, *, request_id: str) -> JSONResponse:
    """The whole answer; says when to retry where that helps."""
    status = status_of(error)
    headers = {}
    if status in (429, 503):
        retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else _RETRY_AFTER_S
        headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    return JSONResponse(error_body(error, request_id=request_id), status_code=status, headers=headers)


def internal_error() -> RequestError:
    """What a client learns of a bug of ours."""
    return RequestError("the gateway failed; the request id finds it in the log", code="internal_error")


def _entry(error: RequestError) -> tuple[int, str]:
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, entry in _BY_CLASS.items():
        if isinstance(error, kind):
            return entry
    return _REFUSED
