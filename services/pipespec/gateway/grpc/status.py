"""Errors as gRPC statuses. The one place that knows which code is which status."""

from __future__ import annotations

import grpc

from pipespec.ops.errors import Overloaded, RequestError, SessionLost, Unavailable

CODE = "pipespec-code"
PARAM = "pipespec-param"
RETRY_AFTER_MS = "pipespec-retry-after-ms"

_BY_CODE = {
    "invalid_api_key": grpc.StatusCode.UNAUTHENTICATED,
    "model_not_allowed": grpc.StatusCode.PERMISSION_DENIED,
    "model_not_found": grpc.StatusCode.NOT_FOUND,
    "request_not_found": grpc.StatusCode.NOT_FOUND,
    "resume_expired": grpc.StatusCode.NOT_FOUND,
    "resumed_elsewhere": grpc.StatusCode.ABORTED,
    "request_id_active": grpc.StatusCode.ALREADY_EXISTS,
    "deadline_exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "cancelled": grpc.StatusCode.CANCELLED,
    "internal_error": grpc.StatusCode.INTERNAL,
}
_BY_CLASS = {
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    SessionLost: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: RequestError) -> grpc.StatusCode:
    """Status of an error."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, status in _BY_CLASS.items():
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INVALID_ARGUMENT


def trailers_of(error: RequestError) -> tuple[tuple[str, str], ...]:
    """What programs read: code, field at fault, when to retry."""
    trailers = [(CODE, error.code)]
    if error.param is not None:
        trailers.append((PARAM, error.param))
    if isinstance(error, Overloaded):
        trailers.append((RETRY_AFTER_MS, str(round(error.retry_after_s * 1000))))
    return tuple(trailers)
