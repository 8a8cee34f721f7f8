"""How much a gateway takes in at once: sessions, tokens, bytes, and who may wait for how long.

Part of ``GatewaySettings``. Every bound is counted before anything is answered; what is beyond is refused with the time after
which another try is worth it.
"""

from __future__ import annotations

from pydantic import Field

from pipespec.ops.settings import Settings


class AdmissionSettings(Settings):
    """Bounds of what a gateway has taken in and not yet delivered."""

    max_sessions: int = Field(default=64, ge=1, le=100_000)
    """Sessions open at once; who comes then waits for a moment or is answered with 429."""
    max_tokens_in_flight: int = Field(default=4_194_304, ge=1, le=2**40)
    """Tokens of all requests together, each with its prompts and with all that it may still generate (``max_tokens``); the
    gateway remembers about 40 bytes of each."""
    max_bytes_in_flight: int = Field(default=64 * 1024 * 1024, ge=1024, le=2**40)
    """Bytes of all prompts as they came, of waiting requests too."""
    max_waiting: int | None = Field(default=None, ge=0, le=100_000)
    """Requests that wait for room; more are refused at once. None: a quarter of ``max_sessions``, so that waiting adds about a
    quarter of a request's time at most."""
    queue_timeout_s: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    """A request that has waited for so long is refused (``queue_timeout``) and never started late."""

    @property
    def waiting(self) -> int:
        """Requests that may wait for room."""
        return self.max_sessions // 4 if self.max_waiting is None else self.max_waiting
