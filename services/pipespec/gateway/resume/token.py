"""The names of a stream and of its events, as clients see them.

A stream is ``<gateway replica>.<32 hex digits>``: who owns it, and 128 random bits that nobody guesses. An event is
``<stream>.<index>``, its place in the stream from 0. Both are safe in URLs and headers. Gateways know a stream by
another id, made of these bits and of who asked for it: with somebody else's key, its name names nothing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import is_replica_name
from pipespec.protocol.streams import STREAM_ID_LEN, StreamId

_RESUME_ID = re.compile(r"([a-z0-9-]{1,63})\.([0-9a-f]{32})(?:\.(0|[1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class StreamToken:
    """A stream, and the gateway replica that owns it; ``bits`` are random."""

    replica: str
    bits: bytes

    def __str__(self) -> str:
        """As clients know it."""
        return f"{self.replica}.{self.bits.hex()}"

    def event(self, index: int) -> str:
        """Name of the event with this index: what a client sends back to go on after it."""
        return f"{self}.{index}"

    def stream_of(self, principal: str) -> StreamId:
        """The stream's id between gateways, if it is this principal's; empty where principals are not told apart."""
        name = hashlib.blake2b(principal.encode(), digest_size=hashlib.blake2b.MAX_KEY_SIZE).digest()
        return StreamId(hashlib.blake2b(self.bits, key=name, digest_size=STREAM_ID_LEN).digest())


def parse_resume_id(text: str, *, param: str) -> tuple[StreamToken, int]:
    """The stream, and the index of the first event that is wanted: the one after that which ``text`` names.

    A stream's own name asks for all of it.

    Raises:
        RequestError: it is neither; ``param`` is at fault.
    """
    match = _RESUME_ID.fullmatch(text)
    if match is None or not is_replica_name(match[1]):
        raise RequestError(
            f"{param} is {text[:80]!r}; expected the id of an event of a resumable stream, as the gateway sent it",
            code="invalid_value",
            param=param,
        )
    token = StreamToken(match[1], bytes.fromhex(match[2]))
    return token, 0 if match[3] is None else int(match[3]) + 1


def parse_token(text: str, *, param: str) -> StreamToken:
    """The stream that ``text`` names, or an event of it.

    Raises:
        RequestError: it names none; ``param`` is at fault.
    """
    return parse_resume_id(text, param=param)[0]
