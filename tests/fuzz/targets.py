"""Everything that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from fuzz import replicas, wire

TARGETS: dict[str, Callable[[bytes], None]] = {
    "bus_message": wire.bus_message,
    "http_body": wire.http_body,
    "zmq_message": wire.zmq_message,
    "conversation": wire.conversation,
    "stage": replicas.stage,
    "gateway": replicas.gateway,
}
