"""HTTP as bytes, where a client library would hide or repair what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

TIMEOUT_S = 60


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server at ``url``."""
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes, or resets what still talks after the answer."""
    answer = b""
    async with asyncio.timeout(TIMEOUT_S):
        with suppress(ConnectionError):  # in pieces: a reset would take what was read before it along
            while piece := await reader.read(65536):
                answer += piece
    return answer


async def exchange(url: str, sent: bytes) -> bytes:
    """All that comes back until the server closes."""
    async with connection(url) as (reader, writer):
        writer.write(sent)
        return await until_closed(reader)


def status_of(answer: bytes) -> int:
    """Of a response."""
    return int(answer.split(b" ", 2)[1])
