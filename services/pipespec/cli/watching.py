"""What ``pipespec top`` shows: a fleet's heartbeats as tables, once or again and again."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipespec.bus.address import bus_client_keys
from pipespec.cli.progress import waiting_line
from pipespec.observer.fleet import FleetView, StageRow, fleet_view
from pipespec.observer.observer import Observer
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import Pipeline
from pipespec.protocol.telemetry import Telemetry
from pipespec.protocol.timers import Timers

_LOOK_S = 3.0
"""For rates that mean something."""


class _Listening:
    """A fleet's telemetry, kept up to date."""

    def __init__(self, pipeline: Pipeline, observer: Observer) -> None:
        self._observer = observer
        self._num_stages = len(pipeline.stages)
        self._telemetry = Telemetry(dead_s=Timers.of(pipeline.timers).dead_s)

    def after(self, seconds: float) -> FleetView:
        """Listen so long; what is known then."""
        for heard in self._observer.listen(seconds):
            self._telemetry.on_envelope(time.monotonic(), heard.envelope)
        return fleet_view(self._telemetry, time.monotonic(), num_stages=self._num_stages)


def look(pipeline: Pipeline, *, replicas: bool, as_json: bool) -> None:
    """Listen for some seconds and print what is known then.

    Raises:
        Unavailable: no broker answers, or nobody beats.
    """
    with (
        Observer(pipeline.brokers, keys=bus_client_keys(pipeline), heartbeats_only=True) as observer,
        waiting_line("listening"),
    ):
        view = _Listening(pipeline, observer).after(_LOOK_S)
    if not (view.replicas or view.gateways):
        raise Unavailable(
            f"no heartbeat within {_LOOK_S:g} s: no stage and no gateway lives", code="no_heartbeats"
        )
    if as_json:
        click.echo(json.dumps(view.document(), indent=1))
    else:
        Console(highlight=False).print(_picture(view, replicas=replicas))


def watch(pipeline: Pipeline, *, replicas: bool, every_s: float) -> None:
    """Show the fleet until interrupted.

    Raises:
        Unavailable: no broker answers.
    """
    console = Console(highlight=False)
    with Observer(pipeline.brokers, keys=bus_client_keys(pipeline), heartbeats_only=True) as observer:
        listening = _Listening(pipeline, observer)
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(_picture(listening.after(every_s), replicas=replicas), refresh=True)


def _picture(view: FleetView, *, replicas: bool) -> Group:
    stages = Table(box=None, pad_edge=False)
    for heading in ("stage", "model"):
        stages.add_column(heading, overflow="fold")
    for heading in ("ready", "sessions", "busy", "steps/s", "tokens/s", "accepted", "rollbacks/s"):
        stages.add_column(heading, justify="right")
    for row in view.stages:
        stages.add_row(str(row.rank), row.model or Text("nobody lives", style="red"), *_cells(row))
        for replica in (one for one in view.replicas if replicas and one.rank == row.rank):
            stages.add_row(f"  {replica.name}", Text(replica.model, style="dim"), *_cells(replica))
    return Group(stages, "", _gateways(view))


def _cells(row: StageRow) -> list[str | Text]:
    ready = f"{row.ready}/{row.replicas}" + (f", {row.draining} draining" if row.draining else "")
    return [
        Text(ready, style="" if row.ready == row.replicas > 0 else "yellow"),
        f"{row.sessions}/{row.max_sessions}",
        "-" if row.busy is None else f"{row.busy:.0%}",
        _number(row.steps_per_s),
        _number(row.tokens_per_s),
        "-" if row.acceptance is None else f"{row.acceptance:.0%}",
        _number(row.rollbacks_per_s),
    ]


def _gateways(view: FleetView) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("gateway")
    for heading in ("ready", "sessions", "tokens/s", "ms/token", "refused/s"):
        table.add_column(heading, justify="right")
    for gateway in view.gateways:
        beat = gateway.beat
        state = "draining" if beat.draining else "yes" if beat.ready else "no"
        table.add_row(
            beat.replica,
            Text(state, style="" if beat.ready else "yellow"),
            f"{beat.sessions}/{beat.max_sessions}",
            _number(gateway.tokens_per_s),
            _number(gateway.ms_per_token),
            _number(gateway.refused_per_s),
        )
    if len(view.gateways) != 1:
        sessions = sum(gateway.beat.sessions for gateway in view.gateways)
        everyone = (str(sessions), _number(view.tokens_per_s), _number(view.ms_per_token))
        table.add_row("all" if view.gateways else Text("nobody lives", style="red"), "", *everyone, "")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
