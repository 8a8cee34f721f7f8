"""How long a message takes from one process's ``publish`` to another's ``receive``, through the broker."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from pipespec.bus.keys import ClientKeys
from pipespec.bus.link import BusLink
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import observer_inbox
from pipespec.protocol.messages import Watch

_PAUSE_S = 0.002
_PATIENCE_S = 5.0


def measure_hops(
    brokers: Sequence[BrokerSettings], *, keys: ClientKeys | None = None, count: int = 500
) -> list[float]:
    """Send messages to oneself, one at a time.

    Returns:
        Seconds of each, in order; codec, both threads of the link and both ways to the broker are in it.

    Raises:
        Unavailable: no broker answers.
    """
    link = BusLink(brokers, keys=keys, inbox=observer_inbox(f"hops-{os.getpid()}"))
    try:
        if not link.start():
            raise Unavailable("no broker of the pipeline answers; does it run?", code="no_broker")
        return [_hop(link) for _ in range(count)]
    finally:
        link.close()


def _hop(link: BusLink) -> float:
    time.sleep(_PAUSE_S)
    began_s = time.perf_counter()
    link.publish([(link.inbox, Watch(lease_ms=1))])
    while not link.receive(_PATIENCE_S):
        if time.perf_counter() - began_s > _PATIENCE_S:
            raise Unavailable("a message did not come back through the broker", code="no_broker")
    return time.perf_counter() - began_s
