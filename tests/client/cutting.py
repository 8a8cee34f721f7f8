"""A TCP proxy that can be cut: every connection through it is reset, and new ones may go somewhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CuttableProxy:
    """Listens on a port of its own.

    Attributes:
        port: that clients connect to.
        to: port that new connections are led to; None refuses them.
        num_bytes: that came from the server.
    """

    def __init__(self, to: int | None) -> None:
        self.port = 0
        self.to = to
        self.num_bytes = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.to is None:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.to)
            self._writers |= {writer, other_writer}
            try:
                await asyncio.gather(
                    self._copy(reader, other_writer, counts=False),
                    self._copy(other_reader, writer, counts=True),
                )
            finally:
                self._writers -= {writer, other_writer}
                for each in (writer, other_writer):
                    each.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        while read := await reader.read(65536):
            self.num_bytes += len(read) * counts
            writer.write(read)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction too

    def cut(self) -> None:
        """Reset all connections."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def cuttable(to: int | None) -> AsyncIterator[CuttableProxy]:
    """A proxy, for as long as the block lasts."""
    proxy = CuttableProxy(to)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        proxy.cut()
