"""The error tree of the package.

Sits at the bottom of every import chain. Each error says what was expected, what came and for which session,
and carries ``retriable``: whether the same request may succeed later, unchanged.
"""

from __future__ import annotations

from typing import Self


class PipespecError(Exception):
    """Root of the tree; catch this at a process border."""

    retriable = False


class SettingsError(PipespecError):
    """A setting is unknown or out of range; the message names it, its value and what is allowed."""


class MalformedMessage(PipespecError):
    """Bytes from a peer that are not a message of this protocol version. Counted and dropped, never fatal."""


class InvariantBroken(PipespecError):
    """A rule that this process itself must keep does not hold: a bug of ours. Stops the service loudly."""


class ModelError(PipespecError):
    """A model cannot be fetched, converted or loaded; the message says which and what to do."""


class RequestError(PipespecError):
    """A client's request cannot be served as asked.

    Args:
        message: for the client: what was expected and what came.
        code: stable machine-readable word, the ``code`` of an OpenAI error body (``RELIABILITY`` row names).
        param: the offending request field, where there is one.
    """

    def __init__(self, message: str, *, code: str = "invalid_request", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Overloaded(RequestError):
    """No room for another session now; retry after ``retry_after_s`` seconds."""

    retriable = True

    def __init__(self, message: str, *, code: str = "overloaded", retry_after_s: float = 1.0) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(RequestError):
    """The pipeline cannot serve now: no target replica is ready, or the service is shutting down."""

    retriable = True

    @classmethod
    def no_target(cls) -> Self:
        """No target replica is usable."""
        return cls(
            "no target replica is ready: wait for the target stage to load, or look at its log",
            code="no_target_available",
        )


class SessionLost(RequestError):
    """A session ended before its last token; nothing that was already sent is wrong."""

    retriable = True
