"""The autoscaler process: joins the bus, decides, and, where it leads and may, scales the stages' StatefulSets.

Ready means that enough is heard to decide. Several replicas may run; the one that holds the Lease writes. At the end the
lease is given back when no call to the API is under way any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from pipespec.autoscaler.freshness import Freshness
from pipespec.autoscaler.loop import AutoscalerLoop, Cluster
from pipespec.autoscaler.metrics import AutoscalerMetrics
from pipespec.autoscaler.profile import planned
from pipespec.autoscaler.thinking import Thinking
from pipespec.bus.address import bus_client_keys
from pipespec.bus.link import BusLink
from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.errors import SettingsError
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.scaler import Scaler
from pipespec.protocol.ids import FLEET, Rank, observer_inbox
from pipespec.protocol.telemetry import Telemetry
from pipespec.protocol.timers import Timers

HUNG_S = 10.0
"""A loop that has not turned for so long hangs; decisions are made beside it."""
_LONGEST_TICK_S = 0.5
_LONGEST_WINDOW_S = 60.0
"""Rates over a longer one would have too many heartbeats remembered."""

log = structlog.get_logger(__name__)


def run(pipeline: Pipeline, replica: str) -> None:
    """Run one autoscaler until SIGTERM or SIGINT.

    Raises:
        SettingsError: the pipeline does not say what to aim at, what may be scaled, how fast its stages are, or where the
            cluster is; or the metrics port cannot be bound.
    """
    settings = _checked(pipeline)
    configure_logging(pipeline.log, service="autoscaler", replica=replica)
    scaler = Scaler(planned(pipeline, settings.profile), settings)
    with Shutdown.on_signals() as shutdown, _cluster(pipeline, settings, replica, shutdown) as cluster:
        inbox = observer_inbox(f"autoscaler-{replica}")
        link = BusLink(pipeline.brokers, keys=bus_client_keys(pipeline), inbox=inbox, topics=[FLEET])
        loop = _loop(pipeline, settings, scaler, cluster)

        def is_alive() -> bool:
            return time.monotonic() - loop.turned_s < HUNG_S and (cluster is None or cluster.is_running)

        health = HealthServer(
            host=settings.host,
            port=settings.metrics_port,
            is_alive=is_alive,
            is_ready=lambda: is_alive() and not loop.lack and not shutdown.is_set(),
        )
        with health:
            health.register(AutoscalerMetrics(loop, link, cluster))
            log.info(
                "autoscaler.listening", metrics=health.url, goal_ms=settings.goal_ms, dry_run=settings.dry_run
            )
            tick_s = min(_LONGEST_TICK_S, Timers.of(pipeline.timers).heartbeat_s)
            _serve(link, loop, shutdown, tick_s=tick_s)
            log.info("autoscaler.stopping", reason=shutdown.reason)


def _loop(
    pipeline: Pipeline, settings: AutoscalerSettings, scaler: Scaler, cluster: Cluster | None
) -> AutoscalerLoop:
    timers = Timers.of(pipeline.timers)
    return AutoscalerLoop(
        _scaled(pipeline),
        settings,
        now_s=time.monotonic(),
        telemetry=Telemetry(dead_s=timers.dead_s, window_s=min(settings.interval_s, _LONGEST_WINDOW_S)),
        freshness=Freshness(num_stages=len(pipeline.stages), heartbeat_s=timers.heartbeat_s),
        thinking=Thinking(scaler),
        cluster=cluster,
    )


def _serve(link: BusLink, loop: AutoscalerLoop, shutdown: Shutdown, *, tick_s: float) -> None:
    link.start(timeout_s=0.0)
    try:
        while not shutdown.wait(tick_s):
            link.publish(())  # raises where the link's thread has failed
            loop.turn(time.monotonic(), link.receive(0.0), is_joined=link.is_joined)
    finally:
        link.close()


@contextmanager
def _cluster(
    pipeline: Pipeline, settings: AutoscalerSettings, replica: str, shutdown: Shutdown
) -> Iterator[Cluster | None]:
    """The cluster that the settings name, if they do."""
    if pipeline.kubernetes is None:
        yield None
        return
    from pipespec.autoscaler.cluster import joined  # noqa: PLC0415 - the extra 'cluster', where it is needed

    with joined(
        pipeline.kubernetes,
        name=replica,
        every_s=settings.interval_s,
        sleep=shutdown.wait,
        only_looks=settings.dry_run,
    ) as cluster:
        yield cluster


def _scaled(pipeline: Pipeline) -> list[Rank]:
    return [Rank(rank) for rank, stage in enumerate(pipeline.stages) if stage.scaling is not None]


def _checked(pipeline: Pipeline) -> AutoscalerSettings:
    """The settings, which make sense."""
    settings = pipeline.autoscaler
    if settings is None:
        raise SettingsError(
            "the pipeline has no 'autoscaler': give it one with at least 'goal_ms', the milliseconds per token to keep"
        )
    if pipeline.kubernetes is None and not settings.dry_run:
        raise SettingsError(
            "the pipeline has no 'kubernetes', so nothing can be scaled: give it one with 'namespace' and 'workloads', "
            "or set autoscaler.dry_run to true to see what would be done"
        )
    return settings
