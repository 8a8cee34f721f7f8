"""Errors of a gateway as the package's own types."""

from __future__ import annotations

from pipespec.ops.errors import Overloaded, RequestError, SessionLost, Unavailable


def typed_error(
    kind: str, message: str, *, code: str, param: str | None = None, retry_after_s: float | None = None
) -> RequestError:
    """The error that the gateway raised.

    Args:
        kind: ``overloaded``, ``unavailable`` or ``lost``; anything else is a plain ``RequestError``.
        message: for people.
        code: for programs.
        param: the field at fault.
        retry_after_s: of ``overloaded``.
    """
    match kind:
        case "overloaded":
            retry_after_s = 1.0 if retry_after_s is None else retry_after_s
            return Overloaded(message, code=code, retry_after_s=retry_after_s)
        case "unavailable":
            return Unavailable(message, code=code, param=param)
        case "lost":
            return SessionLost(message, code=code, param=param)
        case _:
            return RequestError(message, code=code, param=param)


def unreachable(address: str, reason: str) -> Unavailable:
    """The gateway does not answer."""
    return Unavailable(f"no gateway answers at {address}: {reason}", code="gateway_unreachable")


def deadline_exceeded(timeout_s: float | None) -> RequestError:
    """The request took longer than its client allows."""
    return RequestError(f"the request took longer than {timeout_s} s", code="deadline_exceeded")


def not_active(request_id: str) -> RequestError:
    """There is nothing to cancel."""
    return RequestError(f"no request {request_id!r} is active", code="request_not_found", param="request_id")
