"""The stage process: load the engine, join the bus, turn the loop until told to stop.

Ready means: the model is loaded, the bus is joined, and the loop turns. At the end the replica says that it drains,
publishes what is left, and goes; its sessions are moved by their gateways.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import structlog

from pipespec.bus.address import bus_client_keys
from pipespec.bus.link import BusLink
from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.engine.parallel.launch import Followers, Seat, seat_in_environment
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import Pipeline, StageSettings
from pipespec.protocol.ids import Rank
from pipespec.protocol.pace import pace_of
from pipespec.protocol.place import Place
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from pipespec.stage.loop import StageLoop
from pipespec.stage.metrics import StageMetrics

HUNG_S = 60.0
"""A loop that has not turned for so long will not: the longest step is one prefill chunk."""

log = structlog.get_logger(__name__)


def run(
    pipeline: Pipeline, rank: int, replica: str, metrics_port: int = 0, *, command: Sequence[str] = ()
) -> None:
    """Run one stage replica until SIGTERM or SIGINT, or, in a follower's process, until its leader ends.

    Args:
        pipeline: all of it.
        rank: of the stage.
        replica: its name.
        metrics_port: 0 picks a free one.
        command: starts another process of this replica, where the stage is split over several.

    Raises:
        ModelError: the model cannot be loaded.
        SettingsError: a port cannot be bound, or the wrong number of processes was started.
    """
    settings = pipeline.stages[rank]
    seat = seat_in_environment(settings.tensor_parallel)
    bound = {} if seat is None else {"tensor_rank": seat.rank}
    configure_logging(pipeline.log, service="stage", rank=rank, replica=replica, **bound)
    if seat is not None and seat.rank > 0:
        from pipespec.engine.parallel import ranks  # noqa: PLC0415 - as below

        ranks.following(settings, seat)
        return
    stage = _Readiness(hung_s=Timers.of(pipeline.timers).hung_s)
    health = HealthServer(
        host=pipeline.stage_host, port=metrics_port, is_alive=stage.is_alive, is_ready=stage.is_ready
    )
    with health:
        log.info("stage.loading", model=settings.model, metrics=health.url)
        # a signal ends the process at once: there is nothing to leave
        with _engine(settings, pipeline.stages[rank + 1 :], seat, command) as loaded:
            link, loop = assemble(pipeline, rank, replica, loaded)
            health.register(StageMetrics(loop, link))
            with Shutdown.on_signals() as shutdown:
                _serve(stage, link, loop, shutdown, drain_timeout_s=settings.drain_timeout_s)


@contextmanager
def _engine(
    settings: StageSettings, later: Sequence[StageSettings], seat: Seat | None, command: Sequence[str]
) -> Iterator[LoadedEngine]:
    """What the stage runs, on as many processes as it is split over."""
    if settings.tensor_parallel == 1:
        yield load_engine(settings, later=later)
        return
    with ExitStack() as stack:
        listener = None
        if seat is None:  # first, so that all of them import torch at the same time
            followers = stack.enter_context(Followers(command, size=settings.tensor_parallel))
            listener = followers.listener
        from pipespec.engine.parallel import ranks  # noqa: PLC0415 - a stage without a model starts without torch

        yield stack.enter_context(ranks.leading(settings, listener))


class _Readiness:
    """What the probes ask, from loading on.

    Args:
        hung_s: a loop that has not turned for so long gets no work from gateways either.
    """

    def __init__(self, *, hung_s: float) -> None:
        self.link: BusLink | None = None
        self.loop: StageLoop | None = None
        self._hung_s = min(hung_s, HUNG_S)

    def is_alive(self) -> bool:
        """While loading, and until the loop has hung for so long that only a restart helps."""
        return self.loop is None or time.monotonic() - self.loop.turned_s < HUNG_S

    def is_ready(self) -> bool:
        """Work can be done here."""
        return (
            self.link is not None
            and self.loop is not None
            and self.link.is_joined
            and time.monotonic() - self.loop.turned_s < self._hung_s
            and not self.loop.draining
        )


def assemble(pipeline: Pipeline, rank: int, replica: str, loaded: LoadedEngine) -> tuple[BusLink, StageLoop]:
    """Link and loop of one replica, ready to be started; ``loaded`` is what the stage runs."""
    settings, engine = pipeline.stages[rank], loaded.engine
    timers = Timers.of(pipeline.timers)
    place = Place(
        rank=Rank(rank),
        replica=replica,
        num_stages=len(pipeline.stages),
        weights=loaded.weights,
        tokenizer=loaded.tokenizer,
        vocab_size=0 if engine.is_model_free else engine.vocab_size,
        max_sessions=settings.max_sessions,
    )
    limits = StageLimits(
        lookahead=settings.lookahead,
        max_chunk=engine.max_chunk,
        context_len=engine.context_len,
        is_model_free=engine.is_model_free,
    )
    keys = bus_client_keys(pipeline)
    link = BusLink(pipeline.brokers, keys=keys, inbox=place.inbox, heartbeat_s=timers.heartbeat_s)
    pace = pace_of(candidates=settings.wait_for, wait_s=settings.wait_ms / 1000)
    core = StageReplica(place, limits, timers, pace=pace)
    return link, StageLoop(core, engine, link, model=loaded.model, tick_s=timers.heartbeat_s / 2)


def _serve(
    stage: _Readiness, link: BusLink, loop: StageLoop, shutdown: Shutdown, *, drain_timeout_s: float
) -> None:
    if not link.start(heartbeat=loop.heartbeat):
        log.warning(
            "bus.not_joined_yet",
            advice="is a broker running, and is this process's key listed? it goes on trying",
        )
    stage.link, stage.loop = link, loop
    log.info("stage.ready", inbox=link.inbox.decode().rstrip("."))
    while not shutdown.is_set():
        loop.turn()
    log.info("stage.draining", reason=shutdown.reason, sessions=len(loop.core.sessions))
    loop.drain(timeout_s=drain_timeout_s)
    log.info("stage.stopping", sessions_cut=len(loop.core.sessions))
    link.close()
