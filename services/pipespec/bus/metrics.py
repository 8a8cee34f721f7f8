"""The numbers of a link to the bus and of a guard, for every service that has one."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipespec.bus.guard import Guard
from pipespec.bus.link import BusLink


def bus_metrics(link: BusLink) -> Iterator[Metric]:
    """Metric families of one link."""
    for name, counts, help_text in (
        ("sent", link.sent, "Messages published, by kind."),
        ("received", link.received, "Messages received, by kind."),
    ):
        family = CounterMetricFamily(f"pipespec_bus_{name}_messages", help_text, labels=["kind"])
        for kind, count in list(counts.items()):
            family.add_metric([kind], count)
        yield family
    yield CounterMetricFamily(
        "pipespec_bus_malformed_messages",
        "Messages that are not of this protocol version.",
        value=link.num_malformed,
    )
    yield CounterMetricFamily(
        "pipespec_bus_overflowed_messages",
        "Messages dropped unread: too slow a loop.",
        value=link.num_overflowed,
    )
    yield CounterMetricFamily(
        "pipespec_bus_failed_handshakes",
        "Handshakes with brokers that came to nothing: a wrong key, or one that is not listed.",
        value=link.num_failed_handshakes,
    )
    yield GaugeMetricFamily("pipespec_bus_joined", "1 while the bus echoes.", value=float(link.is_joined))
    yield GaugeMetricFamily(
        "pipespec_bus_echo_seconds", "Last round trip through a broker.", value=link.echo_rtt_s
    )


def guard_metrics(prefix: str, guard: Guard) -> Iterator[Metric]:
    """Metric families of one guard; ``prefix`` names whose."""
    yield CounterMetricFamily(f"{prefix}_accepted_handshakes", "Of listed keys.", value=guard.num_accepted)
    yield GaugeMetricFamily(f"{prefix}_listed_keys", "Keys that may connect.", value=guard.num_listed)
    refused = CounterMetricFamily(
        f"{prefix}_refused_handshakes", "Handshakes that came to nothing, by reason.", labels=["reason"]
    )
    for reason, count in list(guard.refused.items()):
        refused.add_metric([reason], count)
    yield refused
