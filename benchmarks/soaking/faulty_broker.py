"""A broker that loses, repeats and delays one message in a hundred: what stands between the processes of a soak.

The same sockets as the product's broker, but Python forwards. Subscriptions pass untouched. Run as a script, it ends at SIGTERM.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import click
import zmq
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.bus.address import bind_endpoints
from pipespec.bus.sockets import Context, Socket, broker_in, broker_out
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.pipeline import load_pipeline

KINDS = {"lost": 0.7, "twice": 0.15, "late": 0.15}
"""What becomes of a message that is hit, and how often each."""
LATEST_S = 0.6
_TURN_MS = 20

Frames = list[bytes]


class Faults:
    """Decides about one message after the other.

    Attributes:
        passed: messages so far.
        counts: of what was done to some of them.
    """

    def __init__(self, share: float, random: Random) -> None:
        self.passed = 0
        self.counts: Counter[str] = Counter()
        self._share = share
        self._random = random
        self._numbers = itertools.count()
        self._late: list[tuple[float, int, Frames]] = []

    def take(self, now: float, frames: Frames) -> int:
        """How often the message goes on now."""
        self.passed += 1
        if self._random.random() >= self._share:
            return 1
        (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
        self.counts[kind] += 1
        if kind == "late":
            due_s = now + self._random.uniform(0.02, LATEST_S)
            heapq.heappush(self._late, (due_s, next(self._numbers), frames))
        return {"lost": 0, "twice": 2, "late": 0}[kind]

    def due(self, now: float) -> Iterator[Frames]:
        """Late messages whose time has come."""
        while self._late and self._late[0][0] <= now:
            yield heapq.heappop(self._late)[2]


def forward(inward: Socket, outward: Socket, faults: Faults, stop: threading.Event) -> None:
    """Until ``stop``."""
    poller = zmq.Poller()
    poller.register(inward, zmq.POLLIN)
    poller.register(outward, zmq.POLLIN)
    while not stop.is_set():
        ready = dict(poller.poll(_TURN_MS))
        now = time.monotonic()
        if outward in ready:
            inward.send_multipart(outward.recv_multipart())
        while inward in ready:
            try:
                frames = inward.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            for _ in range(faults.take(now, frames)):
                outward.send_multipart(frames)
        for frames in faults.due(now):
            outward.send_multipart(frames)


class FaultMetrics(Collector):
    """How many messages, and what was done to them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def collect(self) -> Iterator[Metric]:
        """Two families."""
        yield CounterMetricFamily("soak_messages", "Messages that came in.", value=self._faults.passed)
        family = CounterMetricFamily("soak_faults", "Messages that were hit.", labels=["kind"])
        for kind in KINDS:
            family.add_metric([kind], self._faults.counts[kind])
        yield family


@click.command()
@click.option("--pipeline", "file", type=click.Path(path_type=Path), required=True)
@click.option("--share", type=float, required=True, help="Of messages that are hit.")
@click.option("--seed", type=int, required=True)
def main(*, file: Path, share: float, seed: int) -> None:
    """Forward the messages of a pipeline, with faults."""
    settings = load_pipeline(file).brokers[0]
    faults, stop = Faults(share, Random(seed)), threading.Event()
    context: Context = zmq.Context()
    publish_at, subscribe_at = bind_endpoints(settings)
    sockets = broker_in(context, publish_at), broker_out(context, subscribe_at)
    thread = threading.Thread(target=forward, args=(*sockets, faults, stop), daemon=True)
    thread.start()
    with Shutdown.on_signals() as shutdown:
        health = HealthServer(
            host=settings.host,
            port=settings.metrics_port,
            is_alive=thread.is_alive,
            is_ready=thread.is_alive,
        )
        health.register(FaultMetrics(faults))
        with health:
            shutdown.wait()
    stop.set()
    thread.join()
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
