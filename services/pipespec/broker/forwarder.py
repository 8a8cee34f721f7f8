"""The forwarder: XSUB in, XPUB out, run by libzmq's own proxy loop.

Python only starts it, asks for its statistics and ends it, over a control socket; no message ever passes through
the interpreter. The only state is the subscriptions, which peers repeat by themselves after a restart.
"""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from dataclasses import dataclass

import structlog
import zmq

from pipespec.bus.guard import Guard, ServerKeys
from pipespec.bus.sockets import Context, broker_in, broker_out
from pipespec.ops.errors import SettingsError

_CONTROL = "inproc://control"
_FRAMES = 2
"""Of every message: topic and content; libzmq counts frames."""
_ANSWER_MS = 2000
"""For one answer of the proxy loop."""
_END_S = 5.0
"""For its end."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the start: messages and bytes that came in and went out."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int


class Forwarder:
    """One broker's sockets and the thread that runs them.

    Args:
        publish_at: endpoint where everyone publishes.
        subscribe_at: endpoint where everyone subscribes.
        keys: of this broker, and of those who may connect; None speaks in plain.

    Attributes:
        guard: who lets peers in; None where the bus is in plain.

    Raises:
        SettingsError: an endpoint cannot be bound; the message names it.
    """

    def __init__(self, *, publish_at: str, subscribe_at: str, keys: ServerKeys | None = None) -> None:
        self._context: Context = zmq.Context()
        self.guard = None if keys is None else Guard(self._context, keys, domain="bus")
        protect = None if self.guard is None else self.guard.protect
        self._asking = threading.Lock()  # scrapes and the end come from different threads
        self._control = self._context.socket(zmq.PAIR)
        self._control.set(zmq.RCVTIMEO, _ANSWER_MS)
        self._control.set(zmq.SNDTIMEO, _ANSWER_MS)
        self._control.set(zmq.LINGER, 0)
        try:
            self._in = broker_in(self._context, publish_at, protect=protect)
            self._out = broker_out(self._context, subscribe_at, protect=protect)
        except zmq.ZMQError as error:
            if self.guard is not None:
                self.guard.close()
            self._context.destroy(linger=0)
            raise SettingsError(
                f"the broker cannot listen at {publish_at} and {subscribe_at}: {error.strerror}; "
                "set other ports under 'brokers' or stop what uses them"
            ) from error
        self._control.bind(_CONTROL)
        self._thread = threading.Thread(target=self._run, name="broker-proxy", daemon=True)
        self._thread.start()
        if self.guard is not None:
            self.guard.start()

    def _run(self) -> None:
        control = self._context.socket(zmq.PAIR)
        control.connect(_CONTROL)
        try:
            zmq.proxy_steerable(self._in, self._out, None, control)
        finally:
            control.close(linger=0)
            self._in.close(linger=0)
            self._out.close(linger=500)

    @property
    def is_running(self) -> bool:
        """Whether the proxy loop turns."""
        return self._thread.is_alive()

    def statistics(self) -> Statistics:
        """Ask the proxy loop for its counters; the answer also proves that it turns.

        Raises:
            zmq.Again: no answer within two seconds.
        """
        with self._asking:
            self._drop_late_answers()
            self._control.send(b"STATISTICS")
            frames = self._control.recv_multipart()
        count = [int(struct.unpack("=Q", frame)[0]) for frame in frames]
        # libzmq: frontend received (frames, bytes), sent (frames, bytes), then the same of the backend
        return Statistics(
            messages_in=count[0] // _FRAMES,
            bytes_in=count[1],
            messages_out=count[6] // _FRAMES,
            bytes_out=count[7],
        )

    def _drop_late_answers(self) -> None:
        """Of questions that were given up: they would be taken for the answers to those that follow."""
        while self._control.poll(0):
            self._control.recv_multipart(zmq.NOBLOCK)

    @property
    def turns(self) -> bool:
        """Whether the proxy loop answers."""
        try:
            self.statistics()
        except zmq.ZMQError:
            return False
        return True

    def stop(self) -> None:
        """End the loop and free the sockets; a loop that hangs is left to the end of the process, which it does not hold up."""
        with self._asking:
            if self._thread.is_alive():
                with suppress(zmq.Again):
                    self._control.send(b"TERMINATE")
                self._thread.join(timeout=_END_S)
        if self.guard is not None:
            self.guard.close()
        if self._thread.is_alive():
            # Its sockets cannot be closed from here, and `term` would wait for them for ever.
            log.error("broker.proxy_hangs", waited_s=_END_S)
            return
        self._control.close(linger=0)
        self._context.term()
