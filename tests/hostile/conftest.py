"""A whole emulated chain as processes, for everyone who attacks it; what it says afterwards is what it said before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.detached import Detached, detached
from hostile.site import Site

CHAIN = {
    "name": "hostile",
    "stages": [
        {
            "kind": "emulated",
            "lookahead": 8,
            "emulation": {"latency_ms": {1: 1, 64: 2}, "session_ms": 0.05, "agreement": 0.6},
        },
        {
            "kind": "emulated",
            "emulation": {"latency_ms": {1: 4, 64: 6}, "session_ms": 0.1, "seed": 7, "context_len": 2048},
        },
    ],
    "gateway": {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "default_max_tokens": 8},
    "timers": {"heartbeat_ms": 50, "dead_ms": 5000},
}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    """Gateway, broker, a draft and a target that take milliseconds."""
    with detached(CHAIN, tmp_path_factory.mktemp("hostile")) as up:
        yield up


@pytest.fixture(scope="module")
def site(running: Detached) -> Iterator[Site]:
    """The chain; after the module's tests it still says what the target says, and logged nothing that it failed at."""
    site = Site(running)
    yield site
    site.is_unharmed()
