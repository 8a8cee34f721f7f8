"""The messages of the bus, protocol version 1, as values.

A message travels in an envelope ``[version, kind, sender, incarnation, number, body]`` (see ``codec``).
``docs/protocol.md`` tells who says what to whom; ``proto/bus/`` holds the schema and golden bytes.
All values are immutable; all lengths are in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum

from pipespec.protocol.ids import Digest, Epoch, Incarnation, Position, Rank, SessionId, TokenId, Topic
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.streams import Resume, Resumed

VERSION = 1

MAX_WINDOW = 512
"""Uncommitted tokens that a stage holds, and a segment carries, at most; a full window stops the stage."""

MAX_SESSION_TOKENS = 250_000
"""Prompt and generated tokens of a session at most: an ``open`` with all of them fits a message of 1 MiB."""


MAX_WATCH_MS = 60_000
"""Longest lease of an observer."""


class SegmentKind(StrEnum):
    """What a segment is to its reader."""

    SPECULATION = "speculation"
    """To the next stage: here is what I would say from ``base`` on."""
    VERIFICATION = "verification"
    """To every earlier stage, and from the target to the gateway: from ``base`` on I say the same."""
    ROLLBACK = "rollback"
    """As verification, but the last token contradicts what was speculated."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a stage's log that the gateway has not yet committed: always the whole window, never a delta.

    Attributes:
        kind: what it is to its reader.
        session: whose log.
        epoch: of the sender's route.
        base: position of ``tokens[0]``; the committed length that the sender knows.
        digest: of the sender's log at ``base``.
        tokens: the window, at most ``MAX_WINDOW``.
    """

    kind: SegmentKind
    session: SessionId
    epoch: Epoch
    base: Position
    digest: Digest
    tokens: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """What a chain's output depends on; two replicas may serve one session only when it is equal.

    Attributes:
        weights: 16-byte digest of the target's weights and config.
        tokenizer: 16-byte digest of the vocabulary (token strings and ids).
    """

    weights: bytes
    tokenizer: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """Gateway to every stage of a route: all that a replica needs to take part in a session, from any point of it.

    Attributes:
        session: the new (or re-routed) session.
        epoch: counts the session's routes.
        route: replica name by rank; ``""`` where a stage takes no part. The last one is the target.
        identity: of the chain that the gateway serves.
        prompt: token ids of the prompt, at least one.
        sampling: how tokens are chosen, on every stage alike.
        committed: generated tokens that are already final.
    """

    session: SessionId
    epoch: Epoch
    route: tuple[str, ...]
    identity: ChainIdentity
    prompt: tuple[TokenId, ...]
    sampling: Sampling
    committed: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class SessionState:
    """One session's entry in ``State``.

    Attributes:
        session: whose committed prefix.
        epoch: the route in force.
        committed: length of the committed prefix.
        digest: of the committed prefix.
        tail: its last tokens, enough for a replica that is a little behind.
    """

    session: SessionId
    epoch: Epoch
    committed: Position
    digest: Digest
    tail: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Gateway to a stage replica: the committed prefixes of its sessions. On commit, and for all on each heartbeat.

    It is the acknowledgement of a window, the correction of whoever disagrees, and the lease.
    """

    entries: tuple[SessionState, ...]


class EndReason(StrEnum):
    """Why a session ended."""

    STOP = "stop"
    """A stop id was committed, or a stop string appeared."""
    LENGTH = "length"
    """``max_tokens`` were committed."""
    CANCELLED = "cancelled"
    """The client cancelled or went away."""
    DEADLINE = "deadline"
    """The request's time ran out."""
    LOST = "lost"
    """No target replica could go on."""
    EXPIRED = "expired"
    """A stage heard of no ``state`` for the lease time."""
    REFUSED = "refused"
    """A stage does not serve it: other tokenizer, weights or chain, or a token beyond its vocabulary."""
    FULL = "full"
    """A stage holds as many sessions as it may; another time it may take this one."""


@dataclass(frozen=True, slots=True)
class Close:
    """Gateway to every stage of a route: free this session. Stays in force for the lease time (a tombstone)."""

    session: SessionId
    epoch: Epoch
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Sync:
    """Stage to gateway: send me the session from ``position``, my digest there is ``digest``.

    Answered with a ``State`` whose tail starts there when epoch and digest fit, else with the whole ``Open``.
    """

    session: SessionId
    epoch: Epoch
    position: Position
    digest: Digest


@dataclass(frozen=True, slots=True)
class StageCounters:
    """What one stage did for one session, or for all of them since its start.

    Attributes:
        steps: forward passes (or look-ups, for a draft without a model), prefill included.
        prefill_steps: those of them that only filled the cache.
        tokens: own tokens published: accepted candidates, corrections and single-token decodes.
        checked: candidates of earlier stages that were checked.
        accepted: those that were right.
        rollbacks: steps whose last pick contradicted a candidate.
        rolled_back: own tokens that a later stage undid.
        busy_us: microseconds inside steps.
    """

    steps: int = 0
    prefill_steps: int = 0
    tokens: int = 0
    checked: int = 0
    accepted: int = 0
    rollbacks: int = 0
    rolled_back: int = 0
    busy_us: int = 0

    def plus(self, other: StageCounters) -> StageCounters:
        """The sum, field by field."""
        return StageCounters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Finished:
    """Stage to gateway: I hold nothing more of this session. The answer to ``close``, or a refusal."""

    session: SessionId
    epoch: Epoch
    rank: Rank
    reason: EndReason
    counters: StageCounters


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A stage replica to the fleet: who I am, that I live, and that my loop turns.

    Attributes:
        rank: the stage it serves.
        replica: its name; ``stage_inbox(rank, replica)`` reaches it.
        ready: takes new sessions.
        draining: takes none and will end.
        model: what it runs, for people.
        weights: 16-byte digest of its weights; empty for a draft without a model.
        tokenizer: 16-byte digest of its vocabulary; empty where any will do.
        vocab_size: ids that it can read are below it; 0 where any will do.
        context_len: tokens that a session may hold; 0 where any will do.
        num_stages: length of the chain that it was configured for.
        turn: counts turns of its loop; a value that stands still under load means a hung engine.
        sessions: open now.
        max_sessions: it takes no more than these.
        counters: since its start.
    """

    rank: Rank
    replica: str
    ready: bool
    draining: bool
    model: str
    weights: bytes
    tokenizer: bytes
    vocab_size: int
    context_len: int
    num_stages: int
    turn: int
    sessions: int
    max_sessions: int
    counters: StageCounters


@dataclass(frozen=True, slots=True)
class GatewayHeartbeat:
    """A gateway replica to the fleet: what its clients ask for and get. ``telemetry`` makes rates of all heartbeats.

    Attributes:
        replica: its name; ``gateway_inbox(replica)`` reaches it.
        ready: takes new sessions.
        draining: will end.
        sessions: open now.
        max_sessions: it takes no more than these.
        refused: sessions for which there was no room, since its start.
        tokens: committed since its start.
        followed: tokens of these that came after their session's first commit.
        followed_us: microseconds that sessions waited for these, each since its commit before.
    """

    replica: str
    ready: bool
    draining: bool
    sessions: int
    max_sessions: int
    refused: int
    tokens: int
    followed: int
    followed_us: int


@dataclass(frozen=True, slots=True)
class Echo:
    """A process to its own inbox, at start: when it comes back, publishing and subscribing both work."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Watch:
    """An observer to a stage replica: tell me of your steps, for so long. Said again before it runs out.

    Attributes:
        lease_ms: how long; the replica takes no more than ``MAX_WATCH_MS``.
    """

    lease_ms: int


@dataclass(frozen=True, slots=True)
class StepShare:
    """One session's part of a step that was made.

    Attributes:
        session: whose.
        base: position of the first pick.
        fed: tokens that went through the model.
        candidates: how many of them were unchecked words of an earlier stage.
        accepted: how many of these were right, from the first on.
        said: tokens that the stage says now, from ``base`` on.
    """

    session: SessionId
    base: Position
    fed: int
    candidates: int
    accepted: int
    said: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """A stage replica to an observer: a step that was made.

    Attributes:
        rank: of its stage.
        replica: its name.
        began_us: microseconds since 1970 on the replica's clock.
        took_us: microseconds.
        shares: of all sessions that took part.
    """

    rank: Rank
    replica: str
    began_us: int
    took_us: int
    shares: tuple[StepShare, ...]


Message = (
    Segment
    | Open
    | State
    | Close
    | Sync
    | Finished
    | Heartbeat
    | GatewayHeartbeat
    | Echo
    | Watch
    | Stepped
    | Resume
    | Resumed
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its sender.

    Attributes:
        sender: the sender's inbox.
        incarnation: of the sender's process.
        number: counts the sender's messages from 1; equal numbers are duplicates.
        message: what is said.
    """

    sender: Topic
    incarnation: Incarnation
    number: int
    message: Message


@dataclass(slots=True)
class Outbox:
    """Messages to publish, in order, each with its topic."""

    sends: list[tuple[Topic, Message]] = field(default_factory=list)

    def send(self, topic: Topic, message: Message) -> None:
        """Add a message."""
        self.sends.append((topic, message))

    def take(self) -> list[tuple[Topic, Message]]:
        """Hand over all messages and start anew."""
        sends, self.sends = self.sends, []
        return sends
