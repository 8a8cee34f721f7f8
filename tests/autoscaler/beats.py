"""Heartbeats of a fleet that does not exist, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipespec.protocol.ids import Incarnation, Rank, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Envelope, GatewayHeartbeat, Heartbeat, StageCounters

NUM_STAGES = 2


def stage_beat(
    rank: int,
    replica: str,
    *,
    sessions: int = 0,
    ready: bool = True,
    busy_us: int = 0,
    num_stages: int = NUM_STAGES,
) -> Heartbeat:
    return Heartbeat(
        rank=Rank(rank),
        replica=replica,
        ready=ready,
        draining=False,
        model="m",
        weights=b"w" * 16,
        tokenizer=b"t" * 16,
        vocab_size=256,
        context_len=1000,
        num_stages=num_stages,
        turn=1,
        sessions=sessions,
        max_sessions=64,
        counters=StageCounters(busy_us=busy_us),
    )


def gateway_beat(
    replica: str = "g0", *, sessions: int = 0, refused: int = 0, tokens: int = 0
) -> GatewayHeartbeat:
    return GatewayHeartbeat(
        replica=replica,
        ready=True,
        draining=False,
        sessions=sessions,
        max_sessions=1000,
        refused=refused,
        tokens=tokens,
        followed=tokens,
        followed_us=20_000 * tokens,
    )


@dataclass
class Speakers:
    """Numbers the messages of every speaker."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def say(self, beat: Heartbeat | GatewayHeartbeat) -> Envelope:
        sender = (
            stage_inbox(beat.rank, beat.replica)
            if isinstance(beat, Heartbeat)
            else gateway_inbox(beat.replica)
        )
        number = self.numbers[sender] = self.numbers.get(sender, 0) + 1
        return Envelope(sender, Incarnation(1), number, beat)
