"""Prometheus metrics: how they are named and read.

Services define their metrics next to the code that counts, at import, through these three functions; all land in the
process's one registry. A name says what is counted and in which unit: ``pipespec_stage_steps_total``,
``pipespec_stage_step_seconds``, ``pipespec_bus_queue_messages``.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

from pipespec.ops.errors import InvariantBroken

NAMESPACE = "pipespec_"
UNITS = ("seconds", "bytes", "tokens", "messages", "sessions", "replicas", "ratio", "info")
"""Last words that gauges and histograms may end with; counters end with ``total``."""
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a GPU's step to a long prompt on a laptop."""


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """A number that only grows; ``name`` ends with ``_total``."""
    return Counter(_checked(name, ("total",)), documentation, labels)


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    """A number that goes both ways; ``name`` ends with its unit."""
    return Gauge(_checked(name, UNITS), documentation, labels)


def histogram(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = LATENCY_BUCKETS_S,
) -> Histogram:
    """A distribution; ``name`` ends with its unit, ``buckets`` are upper bounds in that unit."""
    return Histogram(_checked(name, UNITS), documentation, labels, buckets=buckets)


def exposition() -> tuple[bytes, str]:
    """All metrics of this process as Prometheus reads them: body and content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


def _checked(name: str, endings: Sequence[str]) -> str:
    if not name.startswith(NAMESPACE) or name.rsplit("_", 1)[-1] not in endings:
        raise InvariantBroken(
            f"metric {name!r}: expected {NAMESPACE}<what>_<unit> with a unit of {', '.join(endings)}"
        )
    return name
