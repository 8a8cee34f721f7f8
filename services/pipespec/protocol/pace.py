"""When a session takes part in a step: at once, as the pipeline does, or when enough candidates are there.

Waiting for as many candidates as the earlier stage may be ahead is synchronous speculative decoding (Leviathan et al. 2023):
the draft guesses while the target waits, the target checks while the draft waits. It is what the pipeline is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipespec.protocol.stage_session import StageSession


class Pace(Protocol):
    """Asked before every step about every session that generates."""

    def may_step(self, now: float, session: StageSession) -> bool:
        """Whether the session takes part in the next step."""


class FreeRunning:
    """Nobody waits."""

    def may_step(self, now: float, session: StageSession) -> bool:
        """Always."""
        del now, session
        return True


@dataclass(frozen=True, slots=True)
class Patient:
    """A step waits for candidates of the earlier stage.

    Attributes:
        candidates: that it waits for, or as many as the request and the context leave room for.
        wait_s: at most, since the session's last step: an earlier stage may be lost.
    """

    candidates: int
    wait_s: float

    def may_step(self, now: float, session: StageSession) -> bool:
        """Whether enough candidates are there, or patience has run out."""
        return not session.lacks_candidates(self.candidates) or now - session.answered_s >= self.wait_s


def pace_of(*, candidates: int, wait_s: float) -> Pace:
    """The pace of a stage whose steps wait for so many candidates; 0 waits for none."""
    return Patient(candidates, wait_s) if candidates else FreeRunning()
