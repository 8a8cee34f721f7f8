"""A benchmark begins when the gateway knows the whole pipeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipespec.bench.metrics import metric, wait_for_replicas
from pipespec.bench.scale import emulated_chain
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import Pipeline

USABLE = "pipespec_gateway_usable_replicas"


@contextmanager
def gateway_that_knows(*answers: tuple[int, int]) -> Iterator[tuple[Pipeline, list[tuple[int, int]]]]:
    """A pipeline of a draft and a target; its gateway says one answer after another, and the last one for ever."""
    left = list(answers)

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            drafts, targets = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                f'# TYPE {USABLE} gauge\n{USABLE}{{stage="0"}} {drafts}.0\n{USABLE}{{stage="1"}} {targets}.0\n'.encode()
            )

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        chain = emulated_chain(replicas=1, max_sessions=1)
        gateway = chain.gateway.model_copy(update={"metrics_port": server.server_port})
        try:
            yield chain.model_copy(update={"gateway": gateway}), left
        finally:
            server.shutdown()
            serving.join()


def test_a_target_is_not_enough() -> None:
    with gateway_that_knows((0, 1), (0, 1), (1, 1)) as (chain, left):
        wait_for_replicas(chain)
    assert left == [(1, 1)]


def test_a_replica_that_does_not_come_is_missed() -> None:
    with gateway_that_knows((0, 1)) as (chain, _), pytest.raises(Unavailable, match="1 of 2"):
        wait_for_replicas(chain, patience_s=0.2)


def test_a_real_gateway_comes_to_know_all_replicas() -> None:
    with temporary_pipeline(emulated_chain(replicas=2, max_sessions=2)) as running:
        wait_for_replicas(running)
        assert metric(running.gateway.metrics_port, USABLE) == 4
