"""Hears what a running pipeline says: heartbeats, publications, and by lease every step of every stage replica.

An observer subscribes to all inboxes and asks each replica for its steps. Nothing depends on it: it may come and go, miss
messages, or be too slow.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipespec.bus.keys import ClientKeys
from pipespec.bus.link import BusLink
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import FLEET, Incarnation, Topic, observer_inbox
from pipespec.protocol.messages import Envelope, Heartbeat, Watch

_LEASE_MS = 5000
_RENEW_S = 1.0
_EVERYTHING = (FLEET, Topic(b"stage."), Topic(b"gateway."))
_REMEMBERED = 100_000
_SLICE_S = 0.1
_AFTERWARDS_S = 0.3
"""For what is under way when the action has ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it arrived.

    Attributes:
        at_us: microseconds since 1970 on this machine's clock.
        envelope: the message with its sender.
    """

    at_us: int
    envelope: Envelope


class Observer:
    """A listener on the bus. Use as a context manager.

    Args:
        brokers: of the pipeline.
        keys: for them; None where the bus is in plain.
        heartbeats_only: nothing else is heard, and no replica is asked for its steps.
    """

    def __init__(
        self,
        brokers: Sequence[BrokerSettings],
        *,
        keys: ClientKeys | None = None,
        heartbeats_only: bool = False,
    ) -> None:
        self.replicas: dict[Topic, Heartbeat] = {}
        self._link = BusLink(
            brokers,
            keys=keys,
            inbox=observer_inbox(f"observer-{secrets.token_hex(6)}"),
            topics=(FLEET,) if heartbeats_only else _EVERYTHING,
        )
        self._asks_for_steps = not heartbeats_only
        self._seen: dict[tuple[Topic, Incarnation, int], None] = {}
        self._renew_s = 0.0

    def __enter__(self) -> Self:
        """Join the bus.

        Raises:
            Unavailable: no broker answers.
        """
        if not self._link.start():
            self._link.close()
            raise Unavailable("no broker of the pipeline answers; does it run?", code="no_broker")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave."""
        self._link.close()

    @property
    def num_overflowed(self) -> int:
        """Messages that came faster than they were taken, and are missing."""
        return self._link.num_overflowed

    def listen(self, seconds: float) -> Iterator[Heard]:
        """What is said within so many seconds, each message once however many brokers brought it."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self._renew()
            envelopes = self._link.receive(min(left_s, 0.02))
            at_us = time.time_ns() // 1000  # noqa: TID251 - a timeline spans machines
            for envelope in envelopes:
                if self._is_new(envelope):
                    if isinstance(envelope.message, Heartbeat):
                        self.replicas[envelope.sender] = envelope.message
                    yield Heard(at_us, envelope)

    def listen_while(self, action: Callable[[], None]) -> Iterator[Heard]:
        """What is said while ``action`` runs on a thread of its own, and shortly afterwards; raises what it raises."""
        failures: list[Exception] = []

        def run() -> None:
            try:
                action()
            except Exception as error:  # noqa: BLE001  # raised again on the thread that asked for it
                failures.append(error)

        acting = threading.Thread(target=run, name="observed", daemon=True)
        acting.start()
        while acting.is_alive():
            yield from self.listen(_SLICE_S)
        yield from self.listen(_AFTERWARDS_S)
        if failures:
            raise failures[0]

    def wait_for_replicas(self, num_stages: int, *, timeout_s: float = 5.0) -> None:
        """Return when a replica of every stage was heard of and has been asked for its steps.

        Raises:
            Unavailable: some stage is silent.
        """
        until_s = time.monotonic() + timeout_s
        while len({beat.rank for beat in self.replicas.values()}) < num_stages:
            if time.monotonic() > until_s:
                heard = sorted({int(beat.rank) for beat in self.replicas.values()})
                raise Unavailable(f"of {num_stages} stages only {heard} are heard of", code="no_heartbeats")
            for _ in self.listen(0.05):
                pass
        self._renew_s = 0.0
        for _ in self.listen(0.1):  # the lease has to reach them
            pass

    def _renew(self) -> None:
        if self._asks_for_steps and time.monotonic() >= self._renew_s:
            self._renew_s = time.monotonic() + _RENEW_S
            self._link.publish([(topic, Watch(_LEASE_MS)) for topic in self.replicas])

    def _is_new(self, envelope: Envelope) -> bool:
        key = (envelope.sender, envelope.incarnation, envelope.number)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True
