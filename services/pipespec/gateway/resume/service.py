"""Resumable streams on the event loop: runs their generations, wakes their readers, speaks with other gateways.

One task per stream drains its generation into the core, whether anybody reads or not. A reader is the same to its edge
wherever the stream lives. Owned by the gateway's event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import structlog

from pipespec.gateway.generation import Event, Generation, shutting_down
from pipespec.gateway.resume.asker import RemoteStream
from pipespec.gateway.resume.errors import no_such_gateway, relay_shutting_down
from pipespec.gateway.resume.owner import Limits, OwnedStreams
from pipespec.gateway.resume.reader import LocalReader, Reader, RemoteReader
from pipespec.gateway.resume.token import StreamToken
from pipespec.ops.errors import Overloaded, RequestError
from pipespec.ops.resume import ResumeSettings
from pipespec.protocol.ids import Topic, gateway_inbox
from pipespec.protocol.messages import Message
from pipespec.protocol.streams import STREAM_ID_LEN, Resume, Resumed, StreamId
from pipespec.protocol.timers import Timers

MAX_REMOTE = 1024
"""Streams of other gateways that are read here at once."""

SETTLE_S = 1.0
"""For other gateways to ask for what they have not had, when this one ends."""

Publish = Callable[[Sequence[tuple[Topic, Message]]], None]
_log = structlog.get_logger(__name__)


class Renderer(Protocol):
    """Words events for the protocol of a stream's client."""

    def frames(self, event: Event) -> Iterable[bytes]:
        """An event."""

    def last_frames(self) -> Iterable[bytes]:
        """What follows the last event."""


class ResumeService:
    """All resumable streams that this gateway owns, and those that it reads for its clients.

    Use as an async context manager on the event loop; leaving it ends all generations.

    Args:
        settings: grace and bounds; the grace is above 0.
        replica: this gateway's name.
        timers: the protocol's.
        publish: to the bus; never blocks.
        may_exist: whether a gateway with this inbox could answer now.
    """

    def __init__(
        self,
        settings: ResumeSettings,
        *,
        replica: str,
        timers: Timers,
        publish: Publish,
        may_exist: Callable[[float, Topic], bool],
    ) -> None:
        self._replica = replica
        self._may_exist = may_exist
        self._timers = timers
        self._publish = publish
        self._owned = OwnedStreams(
            Limits(
                grace_s=settings.resume_grace_s,
                lease_s=timers.dead_s,
                stream_bytes=settings.resume_stream_kib * 1024,
                total_bytes=settings.resume_total_kib * 1024,
            )
        )
        self.resumes: Counter[str] = Counter()
        self._pumps: dict[StreamId, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_leaving = False
        self._local: dict[int, asyncio.Event] = {}
        self._remote: dict[int, tuple[RemoteStream, Topic, asyncio.Event]] = {}

    async def __aenter__(self) -> Self:
        """Nothing to do: the gateway's clock turns this service."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all generations; other gateways get what they have not had, for a while."""
        for stream, pump in self._pumps.items():
            self._owned.end(stream, error=shutting_down())
            pump.cancel()
        self._carry_out()
        while tasks := [*self._pumps.values(), *self._closing]:
            await asyncio.wait(tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._owned.is_settled:  # noqa: ASYNC110 - the core knows no events
                    await asyncio.sleep(self._timers.heartbeat_s)

    @property
    def num_streams(self) -> int:
        """Streams kept."""
        return self._owned.num_streams

    @property
    def num_bytes(self) -> int:
        """That they count with."""
        return self._owned.size

    @property
    def num_readers(self) -> int:
        """Clients of this gateway that read a resumable stream, its own or another's."""
        return len(self._local) + len(self._remote)

    # The edges

    def start(self, generation: Generation, renderer: Renderer, *, protocol: str, principal: str) -> Reader:
        """Keep a generation's events from here on, and read them. The generation is owned from here on.

        Only ``principal``, a name, finds the stream again; empty where principals are not told apart.
        """
        token = StreamToken(self._replica, secrets.token_bytes(STREAM_ID_LEN))
        stream = token.stream_of(principal)
        self._owned.open(time.monotonic(), stream, protocol=protocol)
        pump = asyncio.create_task(self._pump(stream, generation, renderer), name="resume-pump")
        self._pumps[stream] = pump
        pump.add_done_callback(lambda done: self._forget_pump(stream, done, generation))
        return self._local_reader(token, stream, protocol=protocol, index=0)

    async def resume(self, token: StreamToken, index: int, *, protocol: str, principal: str) -> Reader:
        """Read a stream from an event on; its owner may be any gateway.

        Raises:
            RequestError: ``resume_expired``, also where it is another principal's; or there is no such event.
        """
        try:
            reader = await self._reader(token, token.stream_of(principal), protocol=protocol, index=index)
        except RequestError as error:
            self.resumes[error.code] += 1
            raise
        self.resumes["ok"] += 1
        return reader

    async def cancel(self, token: StreamToken, *, protocol: str, principal: str) -> None:
        """End a stream wherever it lives; one that has ended stays as it is.

        Raises:
            RequestError: ``resume_expired``, also where it is another principal's.
        """
        stream = token.stream_of(principal)
        if token.replica == self._replica:
            self._owned.cancel(stream, protocol=protocol)
            self._carry_out()
            return
        remote = self._remote_stream(token.replica, stream, protocol=protocol, index=0, cancel=True)
        reader = RemoteReader(self, token, remote)
        try:
            await reader.opened()
        except RequestError as error:
            if error.code == "resume_expired":
                raise
        finally:
            self.leave_remote(remote)

    # The bus and the clock

    def on_message(self, now: float, sender: Topic, message: Resume | Resumed) -> None:
        """Take over what another gateway says."""
        if isinstance(message, Resume):
            self._owned.on_resume(now, sender, message)
            self._carry_out()
            return
        entry = self._remote.get(message.reader)
        if entry is None or entry[1] != sender or entry[0].stream != message.stream:
            return
        remote, _, news = entry
        remote.on_resumed(now, message)
        news.set()
        self.ask(remote)

    def on_timer(self, now: float) -> None:
        """End what is over, ask again for what did not come."""
        self._owned.on_timer(now)
        self._carry_out()
        for remote, _, news in list(self._remote.values()):
            self.ask(remote)
            if remote.has_ended:
                news.set()

    async def delivered(self, *, timeout_s: float) -> None:
        """Wait until all who read a stream of this gateway have had it to its end, but for so long at most.

        Clients that are gone, and may come back within the grace, are not waited for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._local or not self._owned.is_settled:  # noqa: ASYNC110 - the core knows no events
                    await asyncio.sleep(self._timers.heartbeat_s)

    def leave(self) -> None:
        """This gateway ends: its clients are told, and those that read a stream of another one, to go on elsewhere."""
        self._is_leaving = True
        for news in self._local.values():
            news.set()
        for remote, _, news in self._remote.values():
            remote.fail(relay_shutting_down())
            news.set()

    # The readers

    def check_staying(self) -> None:
        """Whether clients of this gateway may go on reading its streams.

        Raises:
            Unavailable: the gateway ends.
        """
        if self._is_leaving:
            raise shutting_down()

    @property
    def owned(self) -> OwnedStreams:
        """The core, for readers."""
        return self._owned

    def enter_local(self, stream: StreamId, *, protocol: str, reader: int, index: int) -> asyncio.Event:
        """A client begins to read; the event is set when there is news for it."""
        self._owned.attach(stream, protocol=protocol, reader=reader, index=index)
        news = self._local[reader] = asyncio.Event()
        self._carry_out()
        return news

    def leave_local(self, stream: StreamId, reader: int) -> None:
        """A client is gone."""
        self._local.pop(reader, None)
        self._owned.detach(time.monotonic(), stream, reader)

    def news_of(self, remote: RemoteStream) -> asyncio.Event:
        """Set when something came for it."""
        return self._remote[remote.reader][2]

    def ask(self, remote: RemoteStream) -> None:
        """Ask its owner, if it is time to."""
        entry = self._remote.get(remote.reader)
        message = remote.ask(time.monotonic())
        if entry is not None and message is not None:
            self._publish([(entry[1], message)])

    def leave_remote(self, remote: RemoteStream) -> None:
        """Ask no more: the owner notices."""
        self._remote.pop(remote.reader, None)

    # Within

    async def _reader(self, token: StreamToken, stream: StreamId, *, protocol: str, index: int) -> Reader:
        if token.replica == self._replica:
            self.check_staying()
            self._owned.check(stream, protocol=protocol, index=index)
            return self._local_reader(token, stream, protocol=protocol, index=index)
        remote = self._remote_stream(token.replica, stream, protocol=protocol, index=index)
        reader = RemoteReader(self, token, remote)
        try:
            await reader.opened()
        except BaseException:
            self.leave_remote(remote)
            raise
        return reader

    def _local_reader(
        self, token: StreamToken, stream: StreamId, *, protocol: str, index: int
    ) -> LocalReader:
        reader = secrets.randbits(64)
        return LocalReader(self, token, stream, protocol=protocol, reader=reader, index=index)

    def _remote_stream(
        self, owner: str, stream: StreamId, *, protocol: str, index: int, cancel: bool = False
    ) -> RemoteStream:
        if self._is_leaving:
            raise relay_shutting_down()
        inbox = gateway_inbox(owner)
        if not self._may_exist(time.monotonic(), inbox):
            raise no_such_gateway()
        if len(self._remote) >= MAX_REMOTE:
            raise Overloaded(f"{MAX_REMOTE} streams of other gateways are read here; try again later")
        remote = RemoteStream(
            stream,
            reader=secrets.randbits(64),
            protocol=protocol,
            index=index,
            heartbeat_s=self._timers.heartbeat_s,
            patience_s=self._timers.dead_s,
            cancel=cancel,
        )
        self._remote[remote.reader] = (remote, inbox, asyncio.Event())
        self.ask(remote)
        return remote

    async def _pump(self, stream: StreamId, generation: Generation, renderer: Renderer) -> None:
        try:
            async with generation:
                async for event in generation:
                    self._append(stream, renderer.frames(event))
            self._append(stream, renderer.last_frames())
            self._owned.end(stream)
        except RequestError as error:
            self._owned.end(stream, error=error)
        except Exception:  # noqa: BLE001 - nobody waits for this task: the log knows, the client is told
            _log.exception("resumable_stream_failed")
            self._owned.end(stream, error=RequestError("the gateway failed", code="internal_error"))
        self._carry_out()

    def _append(self, stream: StreamId, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._owned.append(stream, frame)
        self._carry_out()

    def _carry_out(self) -> None:
        """Wake readers, publish answers, stop generations that nobody may read any more."""
        woken, self._owned.woken = self._owned.woken, set()
        for reader in woken:
            if reader in self._local:
                self._local[reader].set()
        sends = self._owned.outbox.take()
        if sends:
            self._publish(sends)
        stopped, self._owned.stopped = self._owned.stopped, []
        for stream in stopped:
            pump = self._pumps.pop(stream, None)
            if pump is not None:
                self._closing.add(pump)
                pump.cancel()

    def _forget_pump(self, stream: StreamId, pump: asyncio.Task[None], generation: Generation) -> None:
        self._pumps.pop(stream, None)
        self._closing.discard(pump)
        if pump.cancelled():  # perhaps before its first step, and then nothing has closed the generation
            closing = asyncio.create_task(generation.aclose(), name="resume-close")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def resuming(service: ResumeService | None) -> ResumeService:
    """The service, where there is one.

    Raises:
        RequestError: ``unsupported_parameter``.
    """
    if service is None:
        raise RequestError(
            "this gateway keeps no streams (gateway.resume_grace_s is 0)",
            code="unsupported_parameter",
            param="resumable",
        )
    return service
