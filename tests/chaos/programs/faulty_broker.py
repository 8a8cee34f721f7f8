"""A broker that loses, doubles and delays what it forwards, and cuts one way between two processes.

Takes the place of ``pipespec serve broker`` and the same options. Orders come as JSON lines on standard input and replace all
earlier ones: ``{"drop": 0.1, "double": 0.3, "delay_ms": 600, "cuts": [["stage.1.r0.", "gateway."]]}``; a cut names the
beginnings of the sender's inbox and of the topic, and takes heartbeats with it when the topic is ``""``.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgpack
import zmq

from pipespec.bus.address import bind_endpoints
from pipespec.bus.sockets import Context
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import end_with_parent
from pipespec.ops.pipeline import load_pipeline

_SENDER = 2
"""Of ``[version, kind, sender, incarnation, number, body]``."""


@dataclass(frozen=True)
class Faults:
    """Probabilities are per message; a delayed one waits up to ``delay_ms``."""

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    delay_ms: float = 0.0
    cuts: tuple[tuple[str, str], ...] = ()

    def cuts_off(self, frames: list[bytes]) -> bool:
        if not self.cuts:
            return False
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(frames[1])
        sender: bytes = unpacker.unpack()[_SENDER]
        return any(sender.startswith(s.encode()) and frames[0].startswith(t.encode()) for s, t in self.cuts)


class Forwarding:
    """XSUB in, XPUB out, and what is still under way."""

    def __init__(self, publish_at: str, subscribe_at: str) -> None:
        context: Context = zmq.Context()
        self.faults = Faults()
        self._random = Random(1)
        self._order = itertools.count()
        self._late: list[tuple[float, int, list[bytes]]] = []
        self._in, self._out = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
        for socket, endpoint in ((self._in, publish_at), (self._out, subscribe_at)):
            for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
                socket.set(option, 0)
            socket.bind(endpoint)

    def run(self) -> None:
        """For ever."""
        poller = zmq.Poller()
        poller.register(self._in, zmq.POLLIN)
        poller.register(self._out, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll(self._wait_ms()):
                if socket is self._out:
                    self._in.send_multipart(self._out.recv_multipart())
                else:
                    self._forward(self._in.recv_multipart())
            while self._late and self._late[0][0] <= time.monotonic():
                self._out.send_multipart(heapq.heappop(self._late)[2])

    def _wait_ms(self) -> int:
        return max(0, int(1000 * (self._late[0][0] - time.monotonic())) + 1) if self._late else 100

    def _forward(self, frames: list[bytes]) -> None:
        faults, draw = self.faults, self._random.random
        if draw() < faults.drop or faults.cuts_off(frames):
            return
        for _ in range(2 if draw() < faults.double else 1):
            late_s = draw() * faults.delay_ms / 1000 if draw() < faults.delay else 0.0
            if late_s:
                heapq.heappush(self._late, (time.monotonic() + late_s, next(self._order), frames))
            else:
                self._out.send_multipart(frames)


def _obey(forwarding: Forwarding) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        order["cuts"] = tuple((sender, topic) for sender, topic in order.get("cuts", ()))
        forwarding.faults = Faults(**order)


def main() -> None:
    """Forward until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("broker")
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args()
    end_with_parent(asked.parent)
    broker = load_pipeline(asked.pipeline).brokers[asked.index]
    forwarding = Forwarding(*bind_endpoints(broker))
    threading.Thread(target=_obey, args=[forwarding], daemon=True).start()
    health = HealthServer(
        host=broker.host, port=broker.metrics_port, is_alive=lambda: True, is_ready=lambda: True
    )
    with health:
        forwarding.run()


if __name__ == "__main__":
    main()
