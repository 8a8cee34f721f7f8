"""One envelope of every kind, with every field set: the sources of the golden bytes."""

from __future__ import annotations

from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Incarnation,
    Position,
    Rank,
    SessionId,
    TokenId,
    Topic,
    gateway_inbox,
    observer_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import (
    ChainIdentity,
    Close,
    Echo,
    EndReason,
    Envelope,
    Finished,
    GatewayHeartbeat,
    Heartbeat,
    Message,
    Open,
    Segment,
    SegmentKind,
    SessionState,
    StageCounters,
    State,
    Stepped,
    StepShare,
    Sync,
    Watch,
)
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.streams import Failure, Resume, Resumed, StreamId, StreamState

SESSION = SessionId(bytes(range(16)))
DIGEST = Digest(bytes(range(16, 32)))


def ids(*values: int) -> tuple[TokenId, ...]:
    """Token ids."""
    return tuple(TokenId(value) for value in values)


def segment(kind: SegmentKind) -> Segment:
    """A window of three tokens from position 7 on."""
    return Segment(kind, SESSION, Epoch(2), Position(7), DIGEST, ids(1, 49151, 4294967295))


SAMPLING = Sampling(
    max_tokens=64,
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    seed=2**64 - 1,
    repetition_penalty=1.1,
    presence_penalty=-0.5,
    frequency_penalty=0.25,
    logit_bias=((3, -100.0), (77, 1.5)),
    stop_ids=(2, 0),
)
STREAM = StreamId(bytes(range(32, 48)))
COUNTERS = StageCounters(9, 1, 20, 30, 18, 4, 2, 123456)

MESSAGES: dict[str, tuple[Topic, Message]] = {
    "speculation": (stage_inbox(Rank(0), "r0"), segment(SegmentKind.SPECULATION)),
    "verification": (stage_inbox(Rank(1), "r0"), segment(SegmentKind.VERIFICATION)),
    "rollback": (stage_inbox(Rank(1), "r0"), segment(SegmentKind.ROLLBACK)),
    "open": (
        gateway_inbox("g0"),
        Open(
            session=SESSION,
            epoch=Epoch(1),
            route=("r0", "", "target-0"),
            identity=ChainIdentity(b"w" * 16, b"t" * 16),
            prompt=ids(5, 6, 7),
            sampling=SAMPLING,
            committed=ids(8, 9),
        ),
    ),
    "state": (
        gateway_inbox("g0"),
        State((SessionState(SESSION, Epoch(1), Position(9), DIGEST, ids(8, 9)),)),
    ),
    "close": (gateway_inbox("g0"), Close(SESSION, Epoch(1), EndReason.CANCELLED)),
    "sync": (stage_inbox(Rank(2), "r1"), Sync(SESSION, Epoch(1), Position(4), DIGEST)),
    "finished": (
        stage_inbox(Rank(2), "r1"),
        Finished(SESSION, Epoch(1), Rank(2), EndReason.STOP, COUNTERS),
    ),
    "heartbeat": (
        stage_inbox(Rank(2), "r1"),
        Heartbeat(
            rank=Rank(2),
            replica="r1",
            ready=True,
            draining=False,
            model="smollm2-135m",
            weights=b"w" * 16,
            tokenizer=b"t" * 16,
            vocab_size=49152,
            context_len=8192,
            num_stages=3,
            turn=12345,
            sessions=7,
            max_sessions=64,
            counters=COUNTERS,
        ),
    ),
    "gateway_heartbeat": (
        gateway_inbox("g0"),
        GatewayHeartbeat(
            replica="g0",
            ready=True,
            draining=False,
            sessions=17,
            max_sessions=64,
            refused=3,
            tokens=123_456,
            followed=120_000,
            followed_us=5_400_000_000,
        ),
    ),
    "echo": (gateway_inbox("g0"), Echo(2**64 - 2)),
    "watch": (observer_inbox("trace-1"), Watch(5000)),
    "stepped": (
        stage_inbox(Rank(1), "r0"),
        Stepped(
            rank=Rank(1),
            replica="r0",
            began_us=1_763_870_400_000_000,
            took_us=25_750,
            shares=(StepShare(SESSION, Position(7), fed=5, candidates=4, accepted=3, said=4),),
        ),
    ),
    "resume": (
        gateway_inbox("g1"),
        Resume(STREAM, reader=2**64 - 3, protocol="openai", index=17, credit=262_144, cancel=False),
    ),
    "resumed": (
        gateway_inbox("g0"),
        Resumed(
            STREAM,
            reader=2**64 - 3,
            start=17,
            frames=(b"{}", b""),
            state=StreamState.FAILED,
            failure=Failure("lost", "session_lost", "the session ended", "prompt"),
        ),
    ),
}


def envelope(kind: str) -> Envelope:
    """The example of a kind, as its sender would wrap it."""
    sender, message = MESSAGES[kind]
    return Envelope(sender, Incarnation(0x0123456789ABCDEF), 42, message)
