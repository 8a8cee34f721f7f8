"""How throughput and latency scale with sessions and replicas, with emulated stages through the real services.

Stages wait instead of computing, so what is measured is everything else: broker, gateway, protocol core. All of it runs on
this machine, the clients too; when their CPU time reaches the number of cores, that is the limit, and the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from pipespec.bench.flood import flood
from pipespec.bench.hops import measure_hops
from pipespec.bench.load import run_load
from pipespec.bench.metrics import wait_for_replicas
from pipespec.bench.paper import Start, check_texts
from pipespec.bench.usage import Usage, read_usage
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.arrivals import LoadResult, percentile

PROMPT = 16
PATIENT = {"heartbeat_ms": 500, "dead_ms": 20_000, "stall_ms": 60_000, "hung_ms": 60_000, "lease_ms": 60_000}
"""Dozens of processes share few cores here: late is not dead."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load on one pipeline.

    Attributes:
        replicas: of every stage.
        sessions: at once.
        tokens: generated per session.
    """

    replicas: int
    sessions: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """What a cell showed.

    Attributes:
        cell: the load.
        tokens_per_s: of all sessions.
        first_token_ms: median and 99th percentile.
        gap_ms: inter-token latency, median and 99th percentile.
        messages_per_s: into the brokers.
        cpu_us_per_token: by role; ``client`` is the benchmark itself.
        cores_busy: CPU seconds of all roles per second.
    """

    cell: Cell
    tokens_per_s: float
    first_token_ms: tuple[float, float]
    gap_ms: tuple[float, float]
    messages_per_s: float
    cpu_us_per_token: dict[str, float]
    cores_busy: float

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BrokerLimit:
    """What one broker can do, with nothing else going on.

    Attributes:
        messages_per_s: from one publisher to one subscriber, which share this machine with it.
        cpu_us: of the broker's process per message.
        hop_ms: from one process to another, one message at a time: median and 99th percentile.
    """

    messages_per_s: float
    cpu_us: float
    hop_ms: tuple[float, float]


def measure_broker(start: Start) -> BrokerLimit:
    """Flood a broker, then send single messages."""
    with start(emulated_chain(replicas=1, max_sessions=1)) as running:
        before = read_usage(running)
        through = flood(running.brokers)
        spent = read_usage(running).since(before)
        hops = [1e3 * seconds for seconds in measure_hops(running.brokers)]
    return BrokerLimit(
        messages_per_s=through.messages_per_s,
        cpu_us=1e6 * spent.cpu_s["broker"] / through.messages,
        hop_ms=(percentile(hops, 0.5), percentile(hops, 0.99)),
    )


def measure_gateway(start: Start, *, sessions: int = 64, tokens: int = 256) -> ScaleRow:
    """What one gateway streams where stages are cheap: long steps of the target that bring many tokens at once.

    Raises:
        InvariantBroken: a session's tokens are not the target's own.
    """
    with start(bursting_chain(max_sessions=sessions)) as running:
        wait_for_replicas(running)
        return _measure(running, Cell(replicas=1, sessions=sessions, tokens=tokens), seed=1)


def bursting_chain(*, max_sessions: int) -> Pipeline:
    """A draft that is nearly always right and far ahead, and a target that checks tens of tokens in a step."""
    stage = {"kind": "emulated", "max_sessions": max_sessions + 8, "max_batch": 256, "step_tokens": 8192}
    draft = {"latency_ms": {1: 1.0}, "agreement": 0.98}
    document = {
        "name": "bench-gateway",
        "stages": [
            {**stage, "lookahead": 64, "emulation": draft},
            {**stage, "emulation": {"latency_ms": {1: 60.0}}},
        ],
        "gateway": {"max_sessions": max_sessions + 8},
        "timers": PATIENT,
    }
    return parse_pipeline(document, source="the benchmark's pipeline")


def emulated_chain(*, replicas: int, max_sessions: int) -> Pipeline:
    """A draft that agrees in nine of ten tokens, and a target; both cost little more for many sessions than for one."""
    per_replica = -(-max_sessions // replicas) + 8
    stage = {"kind": "emulated", "replicas": replicas, "max_sessions": per_replica, "max_batch": 256}
    draft = {"latency_ms": {1: 4.0, 64: 6.0}, "session_ms": 0.02, "agreement": 0.9}
    target = {"latency_ms": {1: 20.0, 256: 30.0}, "session_ms": 0.05}
    document = {
        "name": "bench-scale",
        "stages": [{**stage, "lookahead": 8, "emulation": draft}, {**stage, "emulation": target}],
        "gateway": {"max_sessions": max_sessions + 8},
        "timers": PATIENT,
    }
    return parse_pipeline(document, source="the benchmark's pipeline")


def run_scale(cells: Sequence[Cell], start: Start, *, seed: int = 1) -> Iterator[ScaleRow]:
    """Measure cell by cell; pipelines are started once per number of replicas.

    Raises:
        InvariantBroken: a session's tokens are not the target's own.
    """
    for replicas in sorted({cell.replicas for cell in cells}):
        mine = [cell for cell in cells if cell.replicas == replicas]
        pipeline = emulated_chain(replicas=replicas, max_sessions=max(cell.sessions for cell in mine))
        with start(pipeline) as running:
            wait_for_replicas(running)
            for cell in mine:
                yield _measure(running, cell, seed)


def _measure(pipeline: Pipeline, cell: Cell, seed: int) -> ScaleRow:
    random = Random(seed)  # noqa: S311  # prompts, nothing secret
    prompts = [[random.randrange(3, 200) for _ in range(PROMPT)] for _ in range(cell.sessions)]
    before = read_usage(pipeline)
    result = run_load(f"grpc://127.0.0.1:{pipeline.gateway.grpc_port}", prompts, max_tokens=cell.tokens)
    usage = read_usage(pipeline).since(before)
    check_texts(pipeline, prompts, result)
    return _row(cell, result, usage)


def _row(cell: Cell, result: LoadResult, usage: Usage) -> ScaleRow:
    return ScaleRow(
        cell=cell,
        tokens_per_s=result.tokens_per_s,
        first_token_ms=(1e3 * result.first_token_s(0.5), 1e3 * result.first_token_s(0.99)),
        gap_ms=(1e3 * result.gap_s(0.5), 1e3 * result.gap_s(0.99)),
        messages_per_s=usage.forwarded / result.total_s,
        cpu_us_per_token={role: 1e6 * spent / result.num_tokens for role, spent in usage.cpu_s.items()},
        cores_busy=sum(usage.cpu_s.values()) / result.total_s,
    )
