"""Messages to bytes and back: msgpack, version 1.

``[version, kind, sender, incarnation, number, body]``; the body is an array of the fields listed in ``KINDS``.
Everything is validated on arrival; a message that does not fit raises ``MalformedMessage``, which receivers count
and drop. ``proto/bus/`` holds the same tables as JSON, with golden bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgpack

from pipespec.ops.errors import InvariantBroken, MalformedMessage, RequestError
from pipespec.protocol.ids import DIGEST_LEN, MAX_STAGES, SESSION_ID_LEN, Incarnation, Topic
from pipespec.protocol.messages import (
    MAX_SESSION_TOKENS,
    MAX_WINDOW,
    VERSION,
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
from pipespec.protocol.sampling import MAX_LOGIT_BIAS, MAX_STOP_IDS, Sampling
from pipespec.protocol.schema import (
    FieldType,
    Struct,
    blob,
    boolean,
    bytes_of,
    listing,
    number,
    text,
    tokens,
    uint,
)
from pipespec.protocol.seal import SEAL_LEN
from pipespec.protocol.streams import (
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    STREAM_ID_LEN,
    Failure,
    Resume,
    Resumed,
    StreamState,
)

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_ENTRIES = 1024
"""Sessions in one ``state`` at most."""


def _one_of(words: type[StrEnum]) -> FieldType:
    known = {word.value: word for word in words}

    def unpack(value: Any) -> StrEnum:
        if type(value) is str and value in known:
            return known[value]
        raise MalformedMessage(f"expected one of {', '.join(known)}")

    return FieldType(" | ".join(known), str, unpack)


_U32, _U64, _SESSION, _DIGEST = uint(32), uint(64), bytes_of(SESSION_ID_LEN), bytes_of(DIGEST_LEN)
_RANK, _REPLICA, _WINDOW, _LONG = (
    uint(8, below=MAX_STAGES),
    text(63),
    tokens(MAX_WINDOW),
    tokens(MAX_SESSION_TOKENS),
)
_BIAS_ID, _BIAS = uint(32), number()


def _bias() -> FieldType:
    def unpack(value: Any) -> tuple[int, float]:
        if type(value) is not list or len(value) != 2:
            raise MalformedMessage("expected a pair of token id and bias")
        return _BIAS_ID.unpack(value[0]), _BIAS.unpack(value[1])

    return FieldType("uint32, float64", lambda pair: [int(pair[0]), float(pair[1])], unpack)


_COUNTERS = Struct(StageCounters, tuple((name, _U64) for name in StageCounters.__slots__))
_IDENTITY = Struct(ChainIdentity, (("weights", bytes_of(16)), ("tokenizer", bytes_of(16))))
_ENTRY = Struct(
    SessionState,
    (("session", _SESSION), ("epoch", _U32), ("committed", _U32), ("digest", _DIGEST), ("tail", _LONG)),
)
_SAMPLING = Struct(
    Sampling,
    (
        ("max_tokens", _U32),
        ("temperature", number()),
        ("top_k", _U32),
        ("top_p", number()),
        ("min_p", number()),
        ("seed", _U64),
        ("repetition_penalty", number()),
        ("presence_penalty", number()),
        ("frequency_penalty", number()),
        ("logit_bias", listing(_bias(), MAX_LOGIT_BIAS)),
        ("stop_ids", tokens(MAX_STOP_IDS)),
    ),
)
_SHARE = Struct(
    StepShare,
    (
        ("session", _SESSION),
        ("base", _U32),
        ("fed", _U32),
        ("candidates", _U32),
        ("accepted", _U32),
        ("said", _U32),
    ),
)
_STREAM = bytes_of(STREAM_ID_LEN)
_FAILURE = Struct(
    Failure, (("kind", text(16)), ("code", text(64)), ("message", text(1024)), ("param", text(128)))
)
_SEGMENT = Struct(
    Segment,
    (("session", _SESSION), ("epoch", _U32), ("base", _U32), ("digest", _DIGEST), ("tokens", _WINDOW)),
)

KINDS: dict[str, Struct] = {
    SegmentKind.SPECULATION.value: _SEGMENT,
    SegmentKind.VERIFICATION.value: _SEGMENT,
    SegmentKind.ROLLBACK.value: _SEGMENT,
    "open": Struct(
        Open,
        (
            ("session", _SESSION),
            ("epoch", _U32),
            ("route", listing(_REPLICA, MAX_STAGES)),
            ("identity", _IDENTITY.as_field()),
            ("prompt", _LONG),
            ("sampling", _SAMPLING.as_field()),
            ("committed", _LONG),
        ),
    ),
    "state": Struct(State, (("entries", listing(_ENTRY.as_field(), MAX_ENTRIES)),)),
    "close": Struct(Close, (("session", _SESSION), ("epoch", _U32), ("reason", _one_of(EndReason)))),
    "sync": Struct(Sync, (("session", _SESSION), ("epoch", _U32), ("position", _U32), ("digest", _DIGEST))),
    "finished": Struct(
        Finished,
        (
            ("session", _SESSION),
            ("epoch", _U32),
            ("rank", _RANK),
            ("reason", _one_of(EndReason)),
            ("counters", _COUNTERS.as_field()),
        ),
    ),
    "heartbeat": Struct(
        Heartbeat,
        (
            ("rank", _RANK),
            ("replica", _REPLICA),
            ("ready", boolean()),
            ("draining", boolean()),
            ("model", text(256)),
            ("weights", bytes_of(16, or_empty=True)),
            ("tokenizer", bytes_of(16, or_empty=True)),
            ("vocab_size", _U32),
            ("context_len", _U32),
            ("num_stages", uint(8)),
            ("turn", _U64),
            ("sessions", _U32),
            ("max_sessions", _U32),
            ("counters", _COUNTERS.as_field()),
        ),
    ),
    "gateway_heartbeat": Struct(
        GatewayHeartbeat,
        (
            ("replica", _REPLICA),
            ("ready", boolean()),
            ("draining", boolean()),
            ("sessions", _U32),
            ("max_sessions", _U32),
            ("refused", _U64),
            ("tokens", _U64),
            ("followed", _U64),
            ("followed_us", _U64),
        ),
    ),
    "echo": Struct(Echo, (("nonce", _U64),)),
    "watch": Struct(Watch, (("lease_ms", _U32),)),
    "stepped": Struct(
        Stepped,
        (
            ("rank", _RANK),
            ("replica", _REPLICA),
            ("began_us", _U64),
            ("took_us", _U32),
            ("shares", listing(_SHARE.as_field(), MAX_ENTRIES)),
        ),
    ),
    "resume": Struct(
        Resume,
        (
            ("stream", _STREAM),
            ("reader", _U64),
            ("protocol", text(16)),
            ("index", _U32),
            ("credit", _U32),
            ("cancel", boolean()),
        ),
    ),
    "resumed": Struct(
        Resumed,
        (
            ("stream", _STREAM),
            ("reader", _U64),
            ("start", _U32),
            ("frames", listing(blob(MAX_FRAME_BYTES), MAX_FRAMES)),
            ("state", _one_of(StreamState)),
            ("failure", _FAILURE.as_field()),
        ),
    ),
}

_KIND_OF: dict[type[Any], str] = {
    struct.type: kind for kind, struct in KINDS.items() if struct is not _SEGMENT
}


def kind_of(message: Message) -> str:
    """The kind's name on the wire."""
    return message.kind.value if isinstance(message, Segment) else _KIND_OF[type(message)]


def encode(envelope: Envelope) -> bytes:
    """Pack an envelope.

    Raises:
        InvariantBroken: it would be larger than a message can be; ``MAX_SESSION_TOKENS`` is there to prevent it.
    """
    kind = kind_of(envelope.message)
    sender = envelope.sender.decode()
    body = KINDS[kind].pack(envelope.message)
    packed: bytes = msgpack.packb([VERSION, kind, sender, envelope.incarnation, envelope.number, body])
    if len(packed) + SEAL_LEN > MAX_MESSAGE_BYTES:
        raise InvariantBroken(f"a {kind} of {len(packed)} bytes; nobody reads more than {MAX_MESSAGE_BYTES}")
    return packed


def decode(data: bytes) -> Envelope:
    """Unpack and check an envelope.

    Raises:
        MalformedMessage: not a message of this version; nothing of it may be used.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES}")
    try:
        frame = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True, ext_hook=_no_ext)
    except (ValueError, RecursionError, TypeError) as error:  # msgpack's own errors are ValueErrors
        raise MalformedMessage(f"not msgpack: {type(error).__name__}") from None
    if type(frame) is not list or len(frame) != 6 or frame[0] != VERSION or type(frame[0]) is not int:
        raise MalformedMessage(f"not an envelope of version {VERSION}")
    _, kind, sender, incarnation, count, body = frame
    struct = KINDS.get(kind) if type(kind) is str else None
    if struct is None:
        raise MalformedMessage("unknown kind of message")
    try:
        message = struct.unpack(body, SegmentKind(kind)) if struct is _SEGMENT else struct.unpack(body)
    except RequestError as error:  # sampling parameters check their own ranges
        raise MalformedMessage(f"{kind}: {error}") from None
    _check_sense(message)
    return Envelope(
        sender=Topic(text(128).unpack(sender).encode()),
        incarnation=Incarnation(_U64.unpack(incarnation)),
        number=_U64.unpack(count),
        message=message,
    )


def _check_sense(message: Message) -> None:
    """What no single field can tell."""
    match message:
        case Open(prompt=prompt, route=route):
            if not prompt:
                raise MalformedMessage("open: the prompt is empty")
            if not route:
                raise MalformedMessage("open: the route is empty")
        case State(entries=entries):
            for entry in entries:
                if len(entry.tail) > entry.committed:
                    raise MalformedMessage(f"state: a tail of {len(entry.tail)} of {entry.committed} tokens")


def _no_ext(code: int, _data: bytes) -> Any:
    raise MalformedMessage(f"extension type {code} is not part of the protocol")
