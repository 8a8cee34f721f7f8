"""Connects again where a handshake was refused.

libzmq tries again after a lost connection, but gives an endpoint up for good when the peer refuses its key or speaks another
mechanism (measured with 4.3.5). Both pass: the allow-list is about to be updated, or a broker about to be replaced by one with
keys. A process that stayed deaf to that broker would not be noticed as long as another one works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from pipespec.bus.keys import ClientKeys
from pipespec.bus.sockets import Context, Socket, connect, connect_one

AGAIN_S = 1.0
_SAY_EVERY_S = 60.0
_GIVEN_UP = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_FAILED = _GIVEN_UP | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

log = structlog.get_logger(__name__)


class Redial:
    """Connects a socket, and keeps it so. All calls come from the thread that owns it.

    Args:
        context: of the socket.
        socket: not yet connected.
        endpoints: it is connected to all of them.
        keys: of this process and of the servers; None where they speak in plain.

    Attributes:
        monitor: readable when there is something to ``take``.
        num_failed: handshakes that came to nothing.
    """

    def __init__(
        self, context: Context, socket: Socket, endpoints: Sequence[str], *, keys: ClientKeys | None
    ) -> None:
        self.num_failed = 0
        self._socket = socket
        self._endpoints = list(endpoints)
        self._keys = keys
        self._again_s: dict[str, float] = {}
        self._said_s: dict[str, float] = {}
        address = f"inproc://handshakes-{id(self)}"
        socket.monitor(address, _FAILED)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.set(zmq.LINGER, 0)
        self.monitor.connect(address)
        connect(socket, self._endpoints, keys)

    def take(self, now_s: float) -> None:
        """Note what failed."""
        while self.monitor.poll(0):
            message = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))
            if message["event"] & _FAILED:
                self._failed(message["endpoint"].decode(), message["event"], message["value"], now_s)

    def dial(self, now_s: float) -> None:
        """Connect again where it is time to."""
        if not self._again_s:
            return
        for endpoint in [endpoint for endpoint, due_s in self._again_s.items() if due_s <= now_s]:
            del self._again_s[endpoint]
            with contextlib.suppress(zmq.ZMQError):  # it may be forgotten already
                self._socket.disconnect(endpoint)
            connect_one(self._socket, self._endpoints, self._endpoints.index(endpoint), self._keys)

    def close(self) -> None:
        """Stop watching; the socket stays."""
        self._socket.disable_monitor()
        self.monitor.close(linger=0)

    def _failed(self, endpoint: str, event: int, value: int, now_s: float) -> None:
        self.num_failed += 1
        if event & _GIVEN_UP:
            self._again_s.setdefault(endpoint, now_s + AGAIN_S)
        if now_s - self._said_s.get(endpoint, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said_s[endpoint] = now_s
            log.warning(
                "bus.handshake_failed",
                endpoint=endpoint,
                refused=bool(event & zmq.EVENT_HANDSHAKE_FAILED_AUTH),
                code=value,
                advice="is this client's key on the server's allow-list, and the server's key the right one? see docs/keys.md",
            )
