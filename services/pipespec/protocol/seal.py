"""The seal of a bus message: four bytes that tell whether topic and payload arrived as they were sent.

The digest chain covers what lies *before* a window; a flipped bit inside one, in an ``open``'s seed or in an epoch still
decodes, and a wrong token would be committed. TCP's 16-bit sum and link-layer checks end at every broker; the
seal goes from sender to reader. It guards against accidents; against attackers there are the bus's keys.
"""

from __future__ import annotations

from zlib import crc32

from pipespec.ops.errors import MalformedMessage
from pipespec.protocol.ids import Topic
from pipespec.protocol.rules import Rules

SEAL_LEN = 4
_ALL_ON = Rules()


def seal(topic: Topic, packed: bytes) -> bytes:
    """The second frame: the packed message and CRC-32 (little-endian) of topic and message."""
    return packed + _sum(topic, packed)


def unseal(topic: bytes, frame: bytes, *, rules: Rules = _ALL_ON) -> bytes:
    """The packed message of a second frame.

    Raises:
        MalformedMessage: it is not what was sent, or was not sent to this topic.
    """
    packed = frame[:-SEAL_LEN]
    if rules.check_seal and frame[-SEAL_LEN:] != _sum(topic, packed):
        raise MalformedMessage("the seal does not fit: damaged on the way")
    return packed


def _sum(topic: bytes, packed: bytes) -> bytes:
    return crc32(packed, crc32(topic)).to_bytes(SEAL_LEN, "little")
