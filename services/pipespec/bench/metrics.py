"""What the processes of a running pipeline say on their metrics ports, and waiting until all of it takes sessions.

A gateway hears of a replica with its next heartbeat, after the replica itself is ready. A session that came before would go
without that draft for all its life, or share another replica's steps: it would not be the pipeline that was measured.
"""

from __future__ import annotations

import time
import urllib.request

from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import Pipeline

_TIMEOUT_S = 5.0
_PAUSE_S = 0.05
_PATIENCE_S = 60.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def metric(port: int, name: str) -> float:
    """A metric of the process that serves them at ``port``, summed over its labels."""
    with _direct.open(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_for_replicas(pipeline: Pipeline, *, patience_s: float = _PATIENCE_S) -> None:
    """Return when the gateway gives sessions to every replica of every stage.

    Raises:
        Unavailable: it does not know of some.
    """
    wanted = sum(stage.replicas for stage in pipeline.stages)
    until_s = time.monotonic() + patience_s
    while (usable := metric(pipeline.gateway.metrics_port, "pipespec_gateway_usable_replicas")) < wanted:
        if time.monotonic() > until_s:
            raise Unavailable(
                f"the gateway knows {usable:.0f} of {wanted} stage replicas", code="no_heartbeats"
            )
        time.sleep(_PAUSE_S)
