"""A process's link to the bus: one PUB and one SUB socket, and the thread that owns them.

The thread never runs model code, so a process that is stuck in a step still answers for its subscriptions and
its heartbeats still go out. Joining is proved, not assumed: the link publishes an ``echo`` to its own inbox until it
comes back through a broker; only then do both directions work (a new SUB silently misses what is published in
its first milliseconds). The echo goes on once a second and tells whether the bus is alive.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import structlog
import zmq

from pipespec.bus.address import publish_endpoints, subscribe_endpoints
from pipespec.bus.keys import ClientKeys
from pipespec.bus.queues import Inbox, Waker
from pipespec.bus.redial import Redial
from pipespec.bus.sockets import Context, Socket, publisher, subscriber
from pipespec.ops.errors import InvariantBroken, MalformedMessage
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.codec import decode, encode, kind_of
from pipespec.protocol.ids import FLEET, Incarnation, Topic
from pipespec.protocol.messages import Echo, Envelope, GatewayHeartbeat, Heartbeat, Message
from pipespec.protocol.seal import seal, unseal

MAX_QUEUED = 10_000
"""Received messages that wait for the process at most."""
_JOIN_ECHO_S = 0.02
_ECHO_S = 1.0
_BATCH = 256

log = structlog.get_logger(__name__)


class BusLink:
    """Publish and receive, from any one thread of the process.

    Args:
        brokers: all of them; everyone connects to all.
        keys: of this process and of the brokers; None where the bus is in plain.
        inbox: this process's own topic.
        topics: further subscriptions, such as ``FLEET``.
        heartbeat_s: seconds between heartbeats.
        on_news: called on the link's thread when there is something to ``receive``.
    """

    def __init__(
        self,
        brokers: Sequence[BrokerSettings],
        *,
        keys: ClientKeys | None = None,
        inbox: Topic,
        topics: Sequence[Topic] = (),
        heartbeat_s: float = 0.1,
        on_news: Callable[[], None] | None = None,
    ) -> None:
        self.inbox = inbox
        self.incarnation = Incarnation(secrets.randbits(64))
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.num_malformed = 0
        self.echo_rtt_s = 0.0
        self._publish_to = publish_endpoints(brokers)
        self._subscribe_at = subscribe_endpoints(brokers)
        self._keys = keys
        self._redials: list[Redial] = []
        self._topics = [inbox, *topics]
        self._heartbeat: Callable[[], Heartbeat | GatewayHeartbeat] | None = None
        self._heartbeat_s = heartbeat_s
        self._on_news = on_news
        self._outgoing: deque[tuple[Topic, Message]] = deque()
        self._incoming: Inbox[Envelope] = Inbox(MAX_QUEUED)
        self._waker = Waker()
        self._joined = threading.Event()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._number = 0
        self._echoes: dict[int, float] = {}
        self._echoed_s = 0.0
        self._next_echo_s = 0.0
        self._next_beat_s = 0.0
        self._thread = threading.Thread(target=self._run, name="bus-link", daemon=True)

    # From the process's own thread

    def start(
        self, *, heartbeat: Callable[[], Heartbeat | GatewayHeartbeat] | None = None, timeout_s: float = 10.0
    ) -> bool:
        """Start the thread.

        Args:
            heartbeat: makes what the fleet hears of this process, called on the link's thread once the link has joined.
            timeout_s: wait so long.

        Returns:
            Whether the link has joined the bus within the time; it goes on trying.
        """
        self._heartbeat = heartbeat
        self._thread.start()
        return self._joined.wait(timeout_s)

    @property
    def is_joined(self) -> bool:
        """Whether an echo came back within the last few seconds: publishing and receiving work."""
        return self._joined.is_set() and time.monotonic() - self._echoed_s < 5 * _ECHO_S

    @property
    def num_overflowed(self) -> int:
        """Received messages that were dropped because the process did not take them in time."""
        return self._incoming.num_dropped

    @property
    def num_failed_handshakes(self) -> int:
        """Handshakes with brokers that came to nothing: a wrong key, or one that is not listed."""
        return sum(redial.num_failed for redial in list(self._redials))

    def publish(self, sends: Sequence[tuple[Topic, Message]]) -> None:
        """Queue messages to be published, in order; never blocks.

        Raises:
            InvariantBroken: the link's thread has failed; the process cannot go on.
        """
        if self._failure is not None:
            raise InvariantBroken(f"the bus thread has failed: {self._failure!r}") from self._failure
        if sends:
            self._outgoing.extend(sends)
            self._waker.wake()

    def receive(self, timeout_s: float) -> list[Envelope]:
        """What has arrived; waits up to ``timeout_s`` seconds for the first."""
        return self._incoming.take(timeout_s)

    def close(self) -> None:
        """Publish what is queued, then close the sockets. The end: publish nothing afterwards."""
        self._stop.set()
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._waker.close()

    # On the link's thread

    def _run(self) -> None:
        context: Context = zmq.Context()
        try:
            pub = publisher(context, self._publish_to)
            sub = subscriber(context, self._subscribe_at, list(self._topics))
            self._redials = [
                Redial(context, pub, self._publish_to, keys=self._keys),
                Redial(context, sub, self._subscribe_at, keys=self._keys),
            ]
            poller = zmq.Poller()
            poller.register(sub, zmq.POLLIN)
            poller.register(self._waker.fileno(), zmq.POLLIN)
            for redial in self._redials:
                poller.register(redial.monitor, zmq.POLLIN)
            while not self._stop.is_set():
                self._turn(poller, pub, sub)
            self._send_queued(pub)
            for redial in self._redials:
                redial.close()
            sub.close(linger=0)
            pub.close()
            context.term()
        except Exception as error:  # noqa: BLE001  # handed to the process's own thread, which stops loudly
            self._failure = error
            context.destroy(linger=0)

    def _turn(self, poller: zmq.Poller, pub: Socket, sub: Socket) -> None:
        now = time.monotonic()
        wait_s = min(self._next_echo_s, self._next_beat_s) - now
        ready = dict(poller.poll(max(0, math.ceil(wait_s * 1000))))
        self._waker.clear()
        for redial in self._redials:
            if redial.monitor in ready:
                redial.take(time.monotonic())
            redial.dial(time.monotonic())
        self._send_queued(pub)
        self._speak(pub)
        envelopes = self._drain(sub)
        if not envelopes:
            return
        self._incoming.put(envelopes)
        if self._on_news is not None:
            self._on_news()

    def _send_queued(self, pub: Socket) -> None:
        while self._outgoing:
            self._send(pub, *self._outgoing.popleft())

    def _send(self, pub: Socket, topic: Topic, message: Message) -> None:
        self._number += 1
        self.sent[kind_of(message)] += 1
        packed = encode(Envelope(self.inbox, self.incarnation, self._number, message))
        pub.send_multipart((topic, seal(topic, packed)))

    def _speak(self, pub: Socket) -> None:
        now = time.monotonic()
        if now >= self._next_echo_s:
            nonce = secrets.randbits(64)
            self._echoes = {**dict(list(self._echoes.items())[-7:]), nonce: now}
            self._next_echo_s = now + (_ECHO_S if self._joined.is_set() else _JOIN_ECHO_S)
            self._send(pub, self.inbox, Echo(nonce))
        if now >= self._next_beat_s:
            self._next_beat_s = now + self._heartbeat_s
            if self._heartbeat is not None and self._joined.is_set():
                self._send(pub, FLEET, self._heartbeat())

    def _drain(self, sub: Socket) -> list[Envelope]:
        envelopes: list[Envelope] = []
        for _ in range(_BATCH):
            try:
                frames = sub.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            envelope = self._parse(frames)
            if envelope is None:
                continue
            self.received[kind_of(envelope.message)] += 1
            if isinstance(envelope.message, Echo):
                self._on_echo(envelope, envelope.message)
            else:
                envelopes.append(envelope)
        return envelopes

    def _parse(self, frames: list[bytes]) -> Envelope | None:
        try:
            return decode(_payload(frames))
        except MalformedMessage as error:
            self.num_malformed += 1
            log.debug("message.malformed", problem=str(error))
            return None

    def _on_echo(self, envelope: Envelope, echo: Echo) -> None:
        sent_s = self._echoes.pop(echo.nonce, None)
        if envelope.incarnation != self.incarnation or sent_s is None:
            return
        self._echoed_s = time.monotonic()
        self.echo_rtt_s = self._echoed_s - sent_s
        self._joined.set()


def _payload(frames: list[bytes]) -> bytes:
    if len(frames) != 2:
        raise MalformedMessage(f"expected 2 frames, topic and message, got {len(frames)}")
    return unseal(*frames)
