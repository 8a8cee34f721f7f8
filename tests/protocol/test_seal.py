"""The seal: what arrives is what was sent, to whom it was sent; else it is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.ops.errors import MalformedMessage
from pipespec.protocol.codec import encode
from pipespec.protocol.ids import Topic
from pipespec.protocol.rules import Rules
from pipespec.protocol.seal import seal, unseal
from protocol.examples import envelope

INBOX = Topic(b"stage.1.r0.")
PACKED = encode(envelope("speculation"))


def test_the_seal_is_the_crc_of_topic_and_message_in_four_bytes() -> None:
    assert seal(Topic(b"1234"), b"56789") == b"56789" + (0xCBF43926).to_bytes(
        4, "little"
    )  # the CRC's check value


def test_what_was_sealed_is_unsealed() -> None:
    assert unseal(INBOX, seal(INBOX, PACKED)) == PACKED


@given(bits=st.sets(st.integers(0, 8 * (len(PACKED) + 4) - 1), min_size=1, max_size=3))
def test_flipped_bits_are_found(bits: set[int]) -> None:
    frame = bytearray(seal(INBOX, PACKED))
    for bit in bits:
        frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MalformedMessage, match="damaged"):
        unseal(INBOX, bytes(frame))


@pytest.mark.parametrize("frame", [b"", b"\x00", PACKED, PACKED + b"\x00" * 4])
def test_what_was_never_sealed_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unseal(INBOX, frame)


def test_a_message_for_another_inbox_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        unseal(Topic(b"stage.1.r1."), seal(INBOX, PACKED))


def test_without_the_rule_damage_passes() -> None:
    damaged = b"\x00" + seal(INBOX, PACKED)[1:]
    assert unseal(INBOX, damaged, rules=Rules(check_seal=False)) == b"\x00" + PACKED[1:]
