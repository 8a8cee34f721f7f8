"""What the autoscaler is told of a fleet at one moment: its stages and its demand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageUse:
    """One stage, all its replicas together.

    Attributes:
        ready: replicas that take sessions.
        asked: replicas that the cluster was asked for (``spec.replicas``).
        draining: replicas that are on their way out.
        sessions: held by all of them.
        busy: mean share of the replicas' time inside steps, 0 to 1; None where unknown.
        agreement: of the earlier stage's candidates that were judged lately, the share that was right:
            ``accepted / (accepted + rollbacks)``; None where none were, and of a first stage.
    """

    ready: int
    asked: int
    draining: int = 0
    sessions: int = 0
    busy: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class FleetLoad:
    """A snapshot.

    Attributes:
        now_s: on a clock that only goes forward.
        stages: by rank.
        sessions: open at all gateways.
        refused: requests that found no room since the snapshot before.
        ms_per_token: that streams waited for a token lately, mean over all tokens; None where unknown.
    """

    now_s: float
    stages: tuple[StageUse, ...]
    sessions: int
    refused: int = 0
    ms_per_token: float | None = None
