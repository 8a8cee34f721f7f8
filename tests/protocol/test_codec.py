"""Messages to bytes and back: golden bytes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.ops.errors import InvariantBroken, MalformedMessage
from pipespec.protocol.codec import KINDS, MAX_MESSAGE_BYTES, decode, encode
from pipespec.protocol.document import schema
from pipespec.protocol.messages import MAX_SESSION_TOKENS
from protocol.examples import MESSAGES, envelope, ids

BUS = Path(__file__).parents[2] / "proto" / "bus"
GOLDEN = json.loads((BUS / "golden.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_bytes_that_version_1_promised(kind: str) -> None:
    assert encode(envelope(kind)).hex() == GOLDEN[kind]
    assert decode(bytes.fromhex(GOLDEN[kind])) == envelope(kind)


def test_examples_cover_every_kind() -> None:
    assert set(MESSAGES) == set(KINDS)


def test_the_schema_document_is_in_step_with_the_code() -> None:
    assert json.loads((BUS / "schema.json").read_text()) == schema()


@given(st.binary(max_size=400))
def test_random_bytes_are_malformed_never_a_crash(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


_ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(kind=st.sampled_from(sorted(KINDS)), index=st.integers(0, 20), junk=_ANYTHING)
def test_one_wrong_field_is_refused_or_means_the_same_again(kind: str, index: int, junk: object) -> None:
    frame = msgpack.unpackb(bytes.fromhex(GOLDEN[kind]))
    frame[5][index % len(frame[5])] = junk
    data = msgpack.packb(frame)
    try:
        decoded = decode(data)
    except MalformedMessage:
        return
    assert decode(encode(decoded)) == decoded


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: [2, *f[1:]], "another version"),
        (lambda f: [True, *f[1:]], "a version that is no integer"),
        (lambda f: [*f, 0], "a field too many"),
        (lambda f: [f[0], "verdict", *f[2:]], "an unknown kind"),
        (lambda f: [f[0], ["x"], *f[2:]], "a kind that is no text"),
        (lambda f: [*f[:2], "s" * 200, *f[3:]], "a long sender"),
        (lambda f: [*f[:3], -1, *f[4:]], "a negative incarnation"),
        (lambda f: [*f[:5], f[5][:-1]], "a missing field"),
        (lambda f: [*f[:5], [*f[5][:-1], b"123"]], "tokens that are no whole words"),
        (lambda f: [*f[:5], [*f[5][:-1], bytes(4 * 513)]], "a window over the limit"),
    ],
)
def test_envelopes_that_do_not_fit_are_refused(change: object, why: str) -> None:
    frame = msgpack.unpackb(bytes.fromhex(GOLDEN["speculation"]))
    with pytest.raises(MalformedMessage):
        decode(msgpack.packb(change(frame)))  # type: ignore[operator]
    assert why


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * (MAX_MESSAGE_BYTES + 1),
        b"\x91" * 5000,
        msgpack.packb(msgpack.ExtType(1, b"x")),
        b"\xc1",
        b"",
    ],
    ids=["too large", "nested bomb", "extension type", "reserved byte", "nothing"],
)
def test_hostile_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


def test_an_open_without_a_prompt_is_refused() -> None:
    frame = msgpack.unpackb(bytes.fromhex(GOLDEN["open"]))
    frame[5][4] = b""
    with pytest.raises(MalformedMessage, match="prompt is empty"):
        decode(msgpack.packb(frame))


def test_sampling_out_of_range_is_refused_with_its_name() -> None:
    frame = msgpack.unpackb(bytes.fromhex(GOLDEN["open"]))
    frame[5][5][1] = -0.5
    with pytest.raises(MalformedMessage, match="temperature"):
        decode(msgpack.packb(frame))


def test_a_tail_longer_than_the_prefix_is_refused() -> None:
    frame = msgpack.unpackb(bytes.fromhex(GOLDEN["state"]))
    frame[5][0][0][2] = 1
    with pytest.raises(MalformedMessage, match="tail"):
        decode(msgpack.packb(frame))


def test_the_longest_session_fits_a_message_and_a_longer_one_is_our_own_bug() -> None:
    example = envelope("open")
    most = replace(example.message, prompt=ids(*range(MAX_SESSION_TOKENS - 2)))  # type: ignore[type-var]
    assert decode(encode(replace(example, message=most))).message == most
    more = replace(example.message, prompt=ids(*range(MAX_SESSION_TOKENS + 20_000)))  # type: ignore[type-var]
    with pytest.raises(InvariantBroken, match="bytes"):
        encode(replace(example, message=more))
