"""HTTP/2 as frames (RFC 9113), for what no client library would send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

TIMEOUT_S = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS = 3
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error_code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8])


def frame(kind: int, *, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _field(name: str, value: str) -> bytes:
    """A header as HPACK says it without any table (RFC 7541, section 6.2.2); both below 127 bytes, or ``value`` longer."""
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + _varint(len(value) - 127)
    return b"\x00" + bytes([len(name)]) + name.encode() + length + value.encode()


def _varint(rest: int) -> bytes:
    out = bytearray()
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    out.append(rest)
    return bytes(out)


def call(
    stream: int, *, path: str = "/pipespec.v1.Generation/Generate", extra: tuple[tuple[str, str], ...] = ()
) -> bytes:
    """The headers of a gRPC call."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("te", "trailers"),  # codespell:ignore te
        ("content-type", "application/grpc"),
        *extra,
    )
    block = b"".join(_field(name, value) for name, value in fields)
    return frame(HEADERS, flags=END_HEADERS, stream=stream, payload=block)


def message(stream: int, body: bytes) -> bytes:
    """The only message of a call, in frames of 16 KiB."""
    data = b"\x00" + struct.pack(">I", len(body)) + body
    pieces = [data[start : start + 16_384] for start in range(0, len(data), 16_384)]
    return b"".join(
        frame(DATA, flags=END_STREAM if piece is pieces[-1] else 0, stream=stream, payload=piece)
        for piece in pieces
    )


def reset(stream: int) -> bytes:
    """Ends a call."""
    return frame(RST_STREAM, stream=stream, payload=struct.pack(">I", CANCEL))


@dataclass
class Connection:
    """One connection, after the preface; answers what has to be answered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def next(self) -> Frame | None:
        """Next frame; None at the end."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        got = Frame(head[3], head[4], struct.unpack(">I", head[5:])[0], payload)
        if got.kind == SETTINGS and not got.flags & ACK:
            self.writer.write(frame(SETTINGS, flags=ACK))
        if got.kind == PING and not got.flags & ACK:
            self.writer.write(frame(PING, flags=ACK, payload=got.payload))
        return got

    async def until(self, kind: int, stream: int | None = None) -> Frame | None:
        """Next frame of a kind (and of a stream); None where the connection ends before it."""
        while (got := await self.next()) is not None:
            if (
                got.kind == kind
                and stream in (None, got.stream)
                and not (kind == SETTINGS and got.flags & ACK)
            ):
                return got
        return None


@asynccontextmanager
async def http2(port: int) -> AsyncIterator[Connection]:
    """A connection to this machine that has sent its preface and its settings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS))
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()
