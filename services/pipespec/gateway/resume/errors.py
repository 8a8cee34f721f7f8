"""What clients are told when a stream cannot go on, and how errors cross the bus between gateways."""

from __future__ import annotations

from pipespec.ops.errors import Overloaded, RequestError, SessionLost, Unavailable
from pipespec.protocol.streams import Failure

_MAX_MESSAGE = 1000
"""Bytes of a message on the bus."""
_KINDS: tuple[tuple[type[RequestError], str], ...] = (
    (Overloaded, "overloaded"),
    (Unavailable, "unavailable"),
    (SessionLost, "lost"),
)


def resume_expired(why: str) -> RequestError:
    """The stream is not there any more, or never was."""
    return RequestError(f"the stream cannot be resumed: {why}; send the request again", code="resume_expired")


def unknown_stream() -> RequestError:
    """Its owner does not know it."""
    return resume_expired("its time without a client is over, or it never was")


def no_such_gateway() -> RequestError:
    """Its owner has not been heard of for long, if ever."""
    return resume_expired("the gateway that began it is not there")


def resumed_elsewhere() -> RequestError:
    """Another connection has taken the stream over."""
    return RequestError(
        "another connection has resumed this stream; only the newest gets its events",
        code="resumed_elsewhere",
    )


def relay_shutting_down() -> Unavailable:
    """This gateway, which only passes the stream on, ends; the stream does not."""
    return Unavailable(
        "this gateway is shutting down; resume the stream through another one", code="relay_shutting_down"
    )


def beyond_the_end() -> RequestError:
    """The client names an event that was never sent to it."""
    return RequestError(
        "the stream has ended and nothing follows that event; expected the id of an event that was received",
        code="invalid_value",
        param="resume_id",
    )


def buffer_full() -> SessionLost:
    """The client is too far behind."""
    return SessionLost(
        "the client is further behind than this gateway keeps of a stream; what was sent is right, "
        "read faster or ask for fewer tokens",
        code="session_buffer_full",
    )


def failure_of(error: RequestError) -> Failure:
    """The same for the bus."""
    kind = next((word for kind, word in _KINDS if isinstance(error, kind)), "invalid")
    message = str(error).encode(errors="replace")[:_MAX_MESSAGE].decode(errors="ignore")
    return Failure(kind, error.code[:64], message, (error.param or "")[:32])


def error_of(failure: Failure) -> RequestError:
    """The same for a client."""
    param = failure.param or None
    match failure.kind:
        case "overloaded":
            return Overloaded(failure.message, code=failure.code)
        case "unavailable":
            return Unavailable(failure.message, code=failure.code, param=param)
        case "lost":
            return SessionLost(failure.message, code=failure.code, param=param)
        case _:
            return RequestError(failure.message, code=failure.code, param=param)
