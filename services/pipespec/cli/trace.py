"""``pipespec trace``: what every stage did and when, as a file for Perfetto or Chrome."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import click

from pipespec.cli.local.document import read_pipeline
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.local.run_folder import NotRunning, serving_pipeline
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.progress import stderr, waiting_line
from pipespec.cli.sampling_options import sampling_options
from pipespec.client import Client
from pipespec.observer.observer import Heard, Observer
from pipespec.observer.timeline import Timeline, timeline_of
from pipespec.ops.pipeline import Pipeline
from pipespec.protocol.ids import SessionId

_SLICE_S = 0.1
_AFTERWARDS_S = 0.3
"""For what is under way when the answer is complete."""


@click.command()
@click.argument("prompt", required=False)
@sampling_options
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), help="Without PROMPT: listen so long to all sessions."
)
@click.option("--session", help="Only this one: the first digits of its hexadecimal id.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("trace.json"), show_default=True
)
@click.option("--name", help="Which running pipeline, if there are several.")
@click.option(
    "--pipeline", type=click.Path(path_type=Path), help="Run this pipeline file just for this command."
)
def trace(
    prompt: str | None,
    *,
    options: dict[str, Any],
    seconds: float | None,
    session: str | None,
    out: Path,
    name: str | None,
    pipeline: Path | None,
) -> None:
    """Answer PROMPT and write every step, publication and rollback on the way to --out.

    Without PROMPT, listen to the sessions that run. Open the file in https://ui.perfetto.dev or chrome://tracing.
    """
    if (prompt is None) == (seconds is None):
        raise click.UsageError("give either PROMPT or --seconds")
    if pipeline is not None:
        with temporary_pipeline(read_pipeline(pipeline)) as running:
            heard = _record(running, prompt, options, seconds)
    else:
        serving = serving_pipeline(name)
        if serving is None:
            raise NotRunning(
                "no pipeline is running; start one with `pipespec up`, or name a file with --pipeline"
            )
        heard = _record(serving, prompt, options, seconds)
    timeline = _chosen(heard, session)
    out.write_text(json.dumps(timeline.document()), encoding="utf-8")
    click.echo(
        f"{out}: {timeline.num_steps} steps and {timeline.num_rollbacks} rollbacks of {len(timeline.sessions)} sessions"
    )


def _record(
    pipeline: Pipeline, prompt: str | None, options: dict[str, Any], seconds: float | None
) -> list[Heard]:
    heard: list[Heard] = []
    with Observer(pipeline.brokers) as observer:
        observer.wait_for_replicas(len(pipeline.stages))
        if prompt is None:
            with waiting_line(f"listening for {seconds:g} s"):
                heard.extend(observer.listen(seconds or 0.0))
        else:
            with waiting_line("tracing one answer"):
                _listen_to_one(observer, heard, grpc_url(pipeline), prompt, options)
        if observer.num_overflowed:
            stderr.print(f"{observer.num_overflowed} messages came too fast and are missing")
    return heard


def _listen_to_one(
    observer: Observer, heard: list[Heard], url: str, prompt: str, options: dict[str, Any]
) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            with Client(url) as client:
                client.generate(messages=[{"role": "user", "content": prompt}], **options)
        except Exception as error:  # noqa: BLE001  # raised again on the thread that asked for it
            failures.append(error)

    asking = threading.Thread(target=ask, name="trace-request", daemon=True)
    asking.start()
    while asking.is_alive():
        heard.extend(observer.listen(_SLICE_S))
    heard.extend(observer.listen(_AFTERWARDS_S))
    if failures:
        raise failures[0]


def _chosen(heard: list[Heard], session: str | None) -> Timeline:
    timeline = timeline_of(heard)
    if session is None:
        return timeline
    matches = [one for one in sorted(timeline.sessions) if one.hex().startswith(session.lower())]
    if len(matches) != 1:
        known = ", ".join(one.hex()[:8] for one in sorted(timeline.sessions)[:8]) or "none"
        raise click.UsageError(f"--session {session}: {len(matches)} sessions begin so; heard of: {known}")
    return timeline_of(heard, SessionId(matches[0]))
