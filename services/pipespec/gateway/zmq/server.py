"""Serves ZeroMQ clients: one task receives, one task per request answers, one task looks after the clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import structlog
from prometheus_client import Counter as CounterMetric

from pipespec.gateway.access import KeyRing, Principal
from pipespec.gateway.backend import Backend
from pipespec.gateway.background import first_end
from pipespec.gateway.generation import Generator, shutting_down
from pipespec.gateway.resume import (
    Reader,
    ResumeService,
    StreamToken,
    beyond_the_end,
    parse_resume_id,
    parse_token,
    resuming,
)
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq.messages import (
    MALFORMED,
    BadMessage,
    Cancel,
    FrameRenderer,
    Generate,
    Ping,
    Resume,
    is_last,
    pack_error,
    pack_event,
    pack_frame,
    pack_pong,
    pack_started,
    unpack,
)
from pipespec.gateway.zmq.offenders import WINDOW_S, Offenders
from pipespec.gateway.zmq.router import ClientGone, Received, Router
from pipespec.ops.errors import Overloaded, RequestError
from pipespec.ops.pipeline import GatewaySettings

PROTOCOL = "zmq"
"""Of requests, in metrics, and of the frames of resumable streams."""
MAX_REQUESTS = 1024
MAX_CANCELS = 16
"""Of streams, by one client, that are under way: their owners may be other gateways, which take their time."""
CLIENT_TIMEOUT_S = 10.0
"""A client that was silent for this long loses its requests."""
_LOOK_EVERY_S = 0.5

_MALFORMED = CounterMetric(
    "pipespec_gateway_malformed_messages_total", "ZeroMQ messages that are not of the protocol"
)
_UNREAD = CounterMetric(
    "pipespec_gateway_unread_messages_total",
    "ZeroMQ messages of clients that had sent too many malformed ones",
)
_log = structlog.get_logger(__name__)

_Key = tuple[bytes, str]
"""Client identity, and the client's own request id."""


class ZmqServer:
    """A listening server; ``stop`` it.

    Attributes:
        port: the bound one, also when 0 was asked for.
        num_malformed: messages refused since the start.
        guard: who lets clients in; None where the edge is in plain.
    """

    def __init__(
        self,
        router: Router,
        generator: Generator,
        *,
        client_timeout_s: float,
        keys: KeyRing | None = None,
        resume: ResumeService | None = None,
    ) -> None:
        self.port = router.port
        self.guard = router.guard
        self.num_malformed = 0
        self._router = router
        self._generator = generator
        self._keys = keys
        self._resume = resume
        self._resumable: dict[_Key, StreamToken] = {}
        self._client_timeout_s = client_timeout_s
        self._requests: dict[_Key, asyncio.Task[None]] = {}
        self._cancels: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()  # also those that are closing
        self._heard: dict[bytes, float] = {}
        self._offenders = Offenders()
        self._draining = False
        self._loops = [
            asyncio.create_task(self._receive(), name="zmq-receive"),
            asyncio.create_task(self._look_after_clients(), name="zmq-clients"),
        ]

    async def failed(self) -> None:
        """Wait until a background task ends, which none does by itself, and raise its error."""
        await first_end(*self._loops)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Refuse new requests, let running ones finish for ``grace_s``, end the others with an error, close."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        left = list(self._requests)
        for key in left:
            self._drop(key)
            with contextlib.suppress(ClientGone):
                await self._router.try_send(key[0], pack_error(key[1], shutting_down()))
        tasks = [*self._loops, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._router.close()

    async def _receive(self) -> None:
        while True:
            received = await self._router.receive()  # its errors are the socket's, not a client's
            try:
                await self._handle(received)
            except ClientGone:
                self._drop_client(received.identity)
            except Exception:  # noqa: BLE001 - one message must never end the service for all clients
                _log.exception("message_failed", client=received.identity.hex(), key=received.client)

    async def _handle(self, received: Received) -> None:
        identity = received.identity
        if self._offenders.is_banned(identity, asyncio.get_running_loop().time()):
            _UNREAD.inc()
            return
        try:
            message = unpack(received.frames)
        except BadMessage as error:
            self.num_malformed += 1
            _MALFORMED.inc()
            await self._router.try_send(identity, pack_error(error.request_id, error.answer))
            await self._note_offence(identity, error.answer)
            return
        self._heard[identity] = asyncio.get_running_loop().time()
        match message:
            case Generate() | Resume():
                await self._start(identity, message, client=received.client)
            case Cancel():
                await self._cancel(identity, message, client=received.client)
            case Ping():
                await self._answer_ping(identity, message)

    async def _note_offence(self, identity: bytes, answer: RequestError) -> None:
        if answer.code != MALFORMED:
            return
        if self._offenders.offend(identity, asyncio.get_running_loop().time()):
            _log.warning("client_banned", client=identity.hex(), seconds=WINDOW_S)
            banned = f"too many malformed messages; nothing is read from you for {WINDOW_S:g} s"
            await self._router.try_send(identity, pack_error(None, RequestError(banned, code=MALFORMED)))

    async def _start(self, identity: bytes, message: Generate | Resume, *, client: str | None) -> None:
        key = (identity, message.id)
        refusal = self._refusal(key)
        if refusal is not None:
            await self._router.try_send(identity, pack_error(message.id, refusal))
            return
        serving = self._serve(key, message, client=client)
        task = asyncio.create_task(serving, name=f"zmq-request-{message.id}")
        self._requests[key] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(key, done))

    def _refusal(self, key: _Key) -> RequestError | None:
        if self._draining:
            return shutting_down()
        if key in self._requests:
            return RequestError(
                f"request id {key[1]!r} is active; use another one", code="request_id_active", param="id"
            )
        if len(self._requests) >= MAX_REQUESTS:
            return Overloaded(f"{MAX_REQUESTS} requests are active; no more are taken")
        return None

    async def _serve(self, key: _Key, message: Generate | Resume, *, client: str | None) -> None:
        """Answer one request; ``client`` is the name of the key that it came with, None in plain."""
        identity, request_id = key
        try:
            principal = self._principal(client)
            if isinstance(message, Resume):
                await self._resume_stream(key, message, client=client)
            else:
                await self._generate(key, message, client=client, principal=principal)
        except ClientGone as error:
            _log.info("client_gone", key=client, reason=str(error))
        except RequestError as error:
            await self._tell(identity, pack_error(request_id, error))
        except Exception:  # noqa: BLE001 - the client is told, the log knows why
            _log.exception("request_failed", request_id=request_id, key=client)
            failed = RequestError("the gateway failed", code="internal_error")
            await self._tell(identity, pack_error(request_id, failed))

    def _principal(self, client: str | None) -> Principal | None:
        """Whose API keys have the name of the CURVE key; None where there are none, or the edge is in plain.

        Raises:
            RequestError: ``invalid_api_key``: nobody has.
        """
        if client is None or self._keys is None:
            return None
        return self._keys.named(client, protocol=PROTOCOL)

    async def _generate(
        self, key: _Key, message: Generate, *, client: str | None, principal: Principal | None
    ) -> None:
        if message.model is not None:
            self._generator.check_model(message.model)
        keeper = resuming(self._resume) if message.resumable else None
        generation = await self._generator.start(message.to_request(), principal=principal)
        if keeper is not None:
            reader = keeper.start(generation, FrameRenderer(), protocol=PROTOCOL, principal=client or "")
            await self._deliver(key, reader)
            return
        async with generation:
            async for event in generation:
                await self._router.send(key[0], pack_event(message.id, event))

    async def _resume_stream(self, key: _Key, message: Resume, *, client: str | None) -> None:
        token, index = parse_resume_id(message.resume_id, param="resume_id")
        keeper = resuming(self._resume)
        reader = await keeper.resume(token, index, protocol=PROTOCOL, principal=client or "")
        await self._deliver(key, reader)

    async def _deliver(self, key: _Key, reader: Reader) -> None:
        identity, request_id = key
        self._resumable[key] = reader.token
        async with reader:
            await self._router.send(identity, pack_started(request_id, reader.token))
            has_ended = False
            async for frame in reader:
                has_ended = is_last(frame)
                await self._router.send(identity, pack_frame(request_id, reader.token, frame))
        if not has_ended:
            raise beyond_the_end()

    async def _tell(self, identity: bytes, frame: bytes) -> None:
        with contextlib.suppress(ClientGone):
            await self._router.send(identity, frame)

    async def _cancel(self, identity: bytes, message: Cancel, *, client: str | None) -> None:
        key = (identity, message.id)
        token = self._resumable.get(key)
        known = self._drop(key)
        if token is None and message.resume_id is None:
            error = _cancelled() if known else _unknown(message.id)
            await self._router.try_send(identity, pack_error(message.id, error))
        elif self._cancels[identity] >= MAX_CANCELS:
            error = Overloaded(f"{MAX_CANCELS} streams of this client are being ended; ask again by its name")
            await self._router.try_send(identity, pack_error(message.id, error))
        else:
            cancelling = asyncio.create_task(self._cancel_stream(identity, message, token, client=client))
            self._cancels[identity] += 1
            self._tasks.add(cancelling)
            cancelling.add_done_callback(lambda done: self._forget_cancel(identity, done))

    def _forget_cancel(self, identity: bytes, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._cancels[identity] -= 1
        if not self._cancels[identity]:
            del self._cancels[identity]

    async def _cancel_stream(
        self, identity: bytes, message: Cancel, token: StreamToken | None, *, client: str | None
    ) -> None:
        try:
            self._principal(client)
            named = message.resume_id
            stream = parse_token(named, param="resume_id") if named is not None else token
            if stream is not None:
                await resuming(self._resume).cancel(stream, protocol=PROTOCOL, principal=client or "")
            error = _cancelled()
        except RequestError as refusal:
            error = refusal
        with contextlib.suppress(ClientGone):  # who reads nothing must not keep this task
            await self._router.try_send(identity, pack_error(message.id, error))

    async def _answer_ping(self, identity: bytes, message: Ping) -> None:
        for request_id in message.ids:
            if (identity, request_id) not in self._requests:
                await self._router.try_send(identity, pack_error(request_id, _unknown(request_id)))
        await self._router.try_send(identity, self._pong_frame())

    def _pong_frame(self) -> bytes:
        return pack_pong(model=self._generator.model_name, ready=self._generator.is_ready)

    async def _look_after_clients(self) -> None:
        """Drop the requests of clients that are silent or unreachable; forget clients without requests."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._client_timeout_s / 4))
            silent_since = asyncio.get_running_loop().time() - self._client_timeout_s
            busy = {identity for identity, _ in self._requests}
            self._heard = {identity: heard for identity, heard in self._heard.items() if identity in busy}
            for identity in busy:
                if self._heard.get(identity, 0.0) < silent_since:
                    _log.info("client_silent", client=identity.hex())
                    self._drop_client(identity)
                    continue
                try:
                    await self._router.try_send(identity, self._pong_frame())
                except ClientGone:
                    self._drop_client(identity)
                except Exception:  # noqa: BLE001 - one client must never end the watch over all
                    _log.exception("client_failed", client=identity.hex())
                    self._drop_client(identity)

    def _drop_client(self, identity: bytes) -> None:
        for key in [key for key in self._requests if key[0] == identity]:
            self._drop(key)

    def _drop(self, key: _Key) -> bool:
        """End a request without a word; tell whether it was active."""
        self._resumable.pop(key, None)
        task = self._requests.pop(key, None)
        if task is None:
            return False
        task.cancel()
        return True

    def _forget(self, key: _Key, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._requests.get(key) is task:
            del self._requests[key]
            self._resumable.pop(key, None)


def _cancelled() -> RequestError:
    return RequestError("the request was cancelled", code="cancelled")


def _unknown(request_id: str) -> RequestError:
    return RequestError(f"no request {request_id!r} is active", code="request_not_found", param="id")


async def serve_zmq(
    *,
    backend: Backend,
    text: TextModel,
    settings: GatewaySettings,
    model_name: str,
    host: str,
    port: int,
    keys: KeyRing | None = None,
    resume: ResumeService | None = None,
    client_timeout_s: float = CLIENT_TIMEOUT_S,
) -> ZmqServer:
    """Start to serve.

    Args:
        backend: the pipeline.
        text: the model's tokenizer and chat template.
        settings: defaults and limits of requests.
        model_name: what clients call the model.
        host: address to bind.
        port: 0 picks a free one.
        keys: whose rights clients have that come with a CURVE key of the same name, and nobody else gets in; None
            where there are none.
        resume: keeps resumable streams; None where that is turned off.
        client_timeout_s: a client that was silent for this long loses its requests.

    Raises:
        SettingsError: the address cannot be bound, or ``settings.zmq_keys`` cannot be used.
    """
    generator = Generator(
        backend=backend, text=text, settings=settings, model_name=model_name, protocol=PROTOCOL
    )
    router = Router(host, port, keys=settings.zmq_keys)
    return ZmqServer(router, generator, keys=keys, client_timeout_s=client_timeout_s, resume=resume)
