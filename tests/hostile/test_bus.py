"""What somebody on the bus may send, while honest clients are served: RELIABILITY B27 to B30."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import msgpack
import pytest
import zmq

from hostile.edges import ask_zmq, over_zmq
from hostile.intruder import DRAFT, GATEWAY, TARGET, intruder, raw_publisher
from hostile.site import PROMPT, Site
from pipespec.client import Client
from pipespec.protocol.codec import encode
from pipespec.protocol.ids import FLEET, Digest, Epoch, Incarnation, Position, SessionId, TokenId, Topic
from pipespec.protocol.messages import (
    Close,
    EndReason,
    Envelope,
    Open,
    Segment,
    SegmentKind,
    SessionState,
    State,
    Sync,
)
from pipespec.protocol.seal import seal
from pipespec.protocol.tokenlog import first_digest

pytestmark = pytest.mark.e2e
NUM_TOKENS = 400
EVENTS = "pipespec_gateway_events_total"
MALFORMED = "pipespec_bus_malformed_messages_total"


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


PAYLOADS = {
    "empty": b"",
    "not msgpack": b"\xc1",
    "noise": secrets.token_bytes(1000),
    "a nested bomb": nested(500_000),
    "a promised length": b"\xdf\xff\xff\xff\xff",
    "a promised string": b"\xdb\xff\xff\xff\xff",
    "an extension": bytes(msgpack.packb(msgpack.ExtType(42, b"x" * 100))),
    "a timestamp": bytes(msgpack.packb(msgpack.Timestamp(0, 0))),
    "a map": bytes(msgpack.packb({"a": 1})),
    "another version": bytes(msgpack.packb([2, "echo", "gateway.g0.", 1, 1, [1]])),
    "another kind": bytes(msgpack.packb([1, "exec", "gateway.g0.", 1, 1, []])),
    "too many fields": bytes(msgpack.packb([1, "echo", "gateway.g0.", 1, 1, [1, 2]])),
}
"""What a peer that knows the format packs wrongly: with its seal on, so that the decoder itself gets it."""


def flipped(frame: bytes) -> bytes:
    """One bit of the content is another one."""
    return bytes([frame[0] ^ 1]) + frame[1:]


def wrong_frames(topic: Topic) -> dict[str, list[bytes]]:
    """Messages that are none: badly framed, badly sealed, and well sealed with a payload that is wrong."""
    well = encode(Envelope(TARGET, Incarnation(1), 1, Close(SessionId(bytes(16)), Epoch(1), EndReason.STOP)))
    return {
        "one frame": [topic],
        "three frames": [topic, b"", seal(topic, b"")],
        "no seal": [topic, well],
        "a flipped bit under its seal": [topic, flipped(seal(topic, well))],
        "the seal of another topic": [topic, seal(FLEET, well)],
        **{name: [topic, seal(topic, payload)] for name, payload in PAYLOADS.items()},
    }


@contextmanager
def client_at_work(site: Site) -> Iterator[Callable[[], bool]]:
    """A client streams while the block runs; afterwards it has the target's text. Yields whether it is done."""

    def ask() -> str:
        with Client(site.running.url("grpc")) as client:
            return client.generate(PROMPT, max_tokens=NUM_TOKENS, temperature=0).text

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        yield asked.done
        assert asked.result(timeout=120) == site.expected(NUM_TOKENS)


def reaches(count: Callable[[], float], least: float) -> None:
    """Wait until a metric has grown as much as it should."""
    until = time.monotonic() + 60
    while count() < least:
        assert time.monotonic() < until, f"{count()} of {least}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("topic", "at"), [(GATEWAY, "gateway"), (TARGET, "stage 1")], ids=["gateway", "target"]
)
def test_what_is_no_message_is_counted_and_dropped(site: Site, topic: Topic, at: str) -> None:
    frames = wrong_frames(topic).values()
    before = site.metric(MALFORMED, at=at)
    with client_at_work(site), raw_publisher(site.running) as publisher:
        for _ in range(20):
            for message in frames:
                publisher.send_multipart(message)
        reaches(lambda: site.metric(MALFORMED, at=at) - before, 20 * len(frames))


def test_a_message_over_the_limit_costs_its_sender_the_connection_only(site: Site) -> None:
    before = site.metric(MALFORMED)
    with client_at_work(site), raw_publisher(site.running) as publisher:
        publisher.send_multipart([GATEWAY, b"x" * (2 * 2**20)])

        until = time.monotonic() + 60
        while site.metric(MALFORMED) == before:
            assert time.monotonic() < until
            publisher.send_multipart([GATEWAY, seal(GATEWAY, b"\xc1")])
            time.sleep(0.05)
        assert site.metric("pipespec_bus_joined") == 1


def test_forged_words_of_the_target_change_nothing(site: Site) -> None:
    """Right name and incarnation, right session; wrong epoch, place, digest, ids, length, or the wrong session."""
    names = ("unknown_session", "old_epoch", "unfit", "token_out_of_range", "forked")
    with intruder(site.running) as evil, client_at_work(site) as is_done:
        opened = evil.overhear(Open)
        target = evil.overhear(Segment, sender=TARGET)
        opening = opened.message
        assert isinstance(opening, Open)
        forged = Segment(
            kind=SegmentKind.VERIFICATION,
            session=opening.session,
            epoch=opening.epoch,
            base=Position(0),
            digest=first_digest(opening.identity, opening.prompt),
            tokens=(TokenId(5),) * 600,
        )
        right = replace(forged, tokens=(TokenId(5), TokenId(6)))
        lies = {
            "unknown_session": replace(right, session=SessionId(bytes(16))),
            "old_epoch": replace(right, epoch=Epoch(opening.epoch + 7)),
            "unfit": replace(right, base=Position(2**31)),
            "token_out_of_range": replace(right, tokens=(TokenId(2**31),)),
            "forked": replace(right, digest=Digest(b"\xff" * 16)),
        }
        before = {name: event(site, name) for name in names}
        malformed = site.metric(MALFORMED)
        evil.play(TARGET, target.incarnation)
        for _ in range(50):
            evil.say(GATEWAY, *lies.values(), forged, replace(right, tokens=(TokenId(5),) * 200_000))
        assert not is_done()
        for name in names:
            reaches(partial(since, site, name, before[name]), 50)
        reaches(lambda: site.metric(MALFORMED) - malformed, 100)


def event(site: Site, name: str) -> float:
    """How often the gateway's core counted it."""
    return site.metric(f'{EVENTS}{{event="{name}"}}')


def since(site: Site, name: str, before: float) -> float:
    """How often since then."""
    return event(site, name) - before


def test_strangers_and_second_processes_of_a_name_are_not_heard(site: Site) -> None:
    """Another incarnation of a target that lives cannot speak for it, and a draft cannot speak for the target."""
    with intruder(site.running) as evil, client_at_work(site):
        opened = evil.overhear(Open)
        draft = evil.overhear(Segment, sender=DRAFT)
        opening = opened.message
        assert isinstance(opening, Open)
        digest = first_digest(opening.identity, opening.prompt)
        lie = Segment(
            SegmentKind.VERIFICATION, opening.session, opening.epoch, Position(0), digest, (TokenId(5),)
        )
        before = event(site, "duplicate_or_former"), event(site, "old_epoch")
        evil.play(TARGET, Incarnation(1))
        evil.say(GATEWAY, *[lie] * 20)
        reaches(lambda: event(site, "duplicate_or_former") - before[0], 20)
        evil.play(DRAFT, draft.incarnation)
        evil.say(GATEWAY, *[lie] * 20)
        reaches(lambda: event(site, "old_epoch") - before[1], 20)


def test_forged_words_to_a_stage_change_nothing(site: Site) -> None:
    with intruder(site.running) as evil, client_at_work(site):
        opened = evil.overhear(Open)
        draft = evil.overhear(Segment, sender=DRAFT)
        opening = opened.message
        assert isinstance(opening, Open)
        wrong = Digest(b"\xff" * 16)
        evil.play(DRAFT, draft.incarnation)
        lie = Segment(
            SegmentKind.SPECULATION, opening.session, opening.epoch, Position(0), wrong, (TokenId(5),) * 100
        )
        entry = SessionState(SessionId(bytes(16)), Epoch(0), Position(10), wrong, (TokenId(5),) * 10)
        for _ in range(50):
            evil.say(
                TARGET,
                lie,
                replace(lie, session=SessionId(bytes(16))),
                replace(lie, base=Position(2**31)),
                replace(lie, tokens=(TokenId(2**31),)),
                State((entry,) * 256),
                Close(SessionId(secrets.token_bytes(16)), Epoch(0), EndReason.CANCELLED),
                Sync(opening.session, Epoch(0), Position(0), wrong),
            )


def test_a_flood_of_syncs_is_answered_at_its_own_rate_alone(site: Site) -> None:
    with intruder(site.running) as evil, client_at_work(site) as is_done:
        opened = evil.overhear(Open)
        draft = evil.overhear(Segment, sender=DRAFT)
        opening = opened.message
        assert isinstance(opening, Open)
        before = event(site, "sync_too_soon")
        evil.play(DRAFT, draft.incarnation)
        lie = Sync(opening.session, Epoch(0), Position(0), Digest(b"\xff" * 16))
        for burst in range(1, 11):  # of fewer than a socket queues: more would be lost on the way
            evil.say(GATEWAY, *[lie] * 200)
            reaches(partial(since, site, "sync_too_soon", before), 100 * burst)
        assert not is_done()


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_the_zeromq_edge_answers_rubbish_and_goes_on(site: Site, payload: bytes) -> None:
    assert over_zmq(site, payload).code in ("malformed_message", "invalid_value")


def test_the_zeromq_edge_takes_one_frame(site: Site) -> None:
    ping = bytes(msgpack.packb({"v": 1, "type": "ping"}))
    answer = ask_zmq(site, lambda socket: socket.send_multipart([ping, ping]))
    assert answer["code"] == "malformed_message"


def test_a_frame_over_the_edges_limit_costs_its_sender_the_connection_only(site: Site) -> None:
    ping = bytes(msgpack.packb({"v": 1, "type": "ping"}))

    def send(socket: zmq.Socket[bytes]) -> None:
        socket.send(b"x" * (3 * 2**20))
        while not socket.poll(200):  # what is sent until it is connected anew may be lost
            socket.send(ping)

    with client_at_work(site):
        assert ask_zmq(site, send)["type"] == "pong"
