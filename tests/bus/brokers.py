"""Brokers on free loopback ports."""

from __future__ import annotations

import socket

from pipespec.broker.forwarder import Forwarder
from pipespec.ops.pipeline import BrokerSettings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings() -> BrokerSettings:
    return BrokerSettings(publish_port=free_port(), subscribe_port=free_port())


def forward(broker: BrokerSettings) -> Forwarder:
    return Forwarder(
        publish_at=f"tcp://127.0.0.1:{broker.publish_port}",
        subscribe_at=f"tcp://127.0.0.1:{broker.subscribe_port}",
    )
