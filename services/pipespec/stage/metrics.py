"""A stage's numbers, read when they are scraped: the core counts anyway, so nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.bus.link import BusLink
from pipespec.bus.metrics import bus_metrics
from pipespec.stage.loop import StageLoop

_COUNTERS = {
    "steps": "Forward passes, or look-ups of a draft without a model.",
    "prefill_steps": "Steps that only filled the cache.",
    "tokens": "Tokens that this stage said: accepted candidates, corrections and its own.",
    "checked": "Candidates of the earlier stage that were checked.",
    "accepted": "Candidates that were right.",
    "rollbacks": "Steps that contradicted a candidate.",
    "rolled_back": "Own tokens that a later stage undid.",
}


class StageMetrics(Collector):
    """Collects from one loop and its link."""

    def __init__(self, loop: StageLoop, link: BusLink) -> None:
        self._loop = loop
        self._link = link

    def collect(self) -> Iterator[Metric]:
        """All metric families of a stage."""
        totals = self._loop.totals
        for name, help_text in _COUNTERS.items():
            yield CounterMetricFamily(f"pipespec_stage_{name}", help_text, value=getattr(totals, name))
        yield CounterMetricFamily(
            "pipespec_stage_busy_seconds", "Time inside steps.", value=totals.busy_us / 1e6
        )
        yield CounterMetricFamily(
            "pipespec_stage_out_of_memory",
            "Steps that the device had no memory for.",
            value=self._loop.step_size.num_too_large,
        )
        yield GaugeMetricFamily(
            "pipespec_stage_step_tokens_limit",
            "Tokens that a step may have now; less than usual after the device had no memory for one.",
            value=self._loop.step_size.most,
        )
        yield CounterMetricFamily("pipespec_stage_turns", "Turns of the loop.", value=self._loop.turns)
        yield GaugeMetricFamily(
            "pipespec_stage_sessions", "Sessions open now.", value=len(self._loop.core.sessions)
        )
        yield from self._cache_metrics()
        dropped = CounterMetricFamily(
            "pipespec_stage_dropped_messages", "Messages that did not fit, by reason.", labels=["reason"]
        )
        for reason, count in list(self._loop.core.dropped.items()):
            dropped.add_metric([reason], count)
        yield dropped
        yield from bus_metrics(self._link)

    def _cache_metrics(self) -> Iterator[Metric]:
        use = self._loop.cache_use
        tokens = GaugeMetricFamily(
            "pipespec_stage_cache_tokens",
            "Room in the cache of keys and values, in tokens.",
            labels=["state"],
        )
        free = use.capacity - use.held - use.cached
        for state, value in (("held", use.held), ("cached", use.cached), ("free", free)):
            tokens.add_metric([state], value)
        yield tokens
        yield CounterMetricFamily(
            "pipespec_stage_prefix_tokens", "Tokens of prompts that were cached already.", value=use.adopted
        )
        yield CounterMetricFamily(
            "pipespec_stage_preemptions",
            "Sessions whose cache was taken for older ones.",
            value=use.preempted,
        )
