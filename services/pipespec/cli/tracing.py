"""Records what a pipeline says while it answers one request, or for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipespec.bus.address import bus_client_keys
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.progress import stderr, waiting_line
from pipespec.client import Client
from pipespec.observer.observer import Heard, Observer
from pipespec.observer.timeline import Timeline, timeline_of
from pipespec.ops.pipeline import Pipeline
from pipespec.protocol.ids import SessionId


def record(
    pipeline: Pipeline,
    prompt: str | None,
    options: dict[str, Any],
    seconds: float | None,
    *,
    api_key: str | None,
    ca: Path | None,
) -> list[Heard]:
    """What is said while ``prompt`` is answered, or, without one, for ``seconds``."""
    heard: list[Heard] = []
    with Observer(pipeline.brokers, keys=bus_client_keys(pipeline)) as observer:
        observer.wait_for_replicas(len(pipeline.stages))
        if prompt is None:
            with waiting_line(f"listening for {seconds:g} s"):
                heard.extend(observer.listen(seconds or 0.0))
        else:

            def ask() -> None:
                with Client(grpc_url(pipeline), api_key=api_key, ca=ca) as client:
                    client.generate(messages=[{"role": "user", "content": prompt}], **options)

            with waiting_line("tracing one answer"):
                heard.extend(observer.listen_while(ask))
        if observer.num_overflowed:
            stderr.print(f"{observer.num_overflowed} messages came too fast and are missing")
    return heard


def chosen(heard: list[Heard], session: str | None) -> Timeline:
    """The timeline of the session whose id begins so, or of all.

    Raises:
        UsageError: none begins so, or several do.
    """
    timeline = timeline_of(heard)
    if session is None:
        return timeline
    matches = [one for one in sorted(timeline.sessions) if one.hex().startswith(session.lower())]
    if len(matches) != 1:
        known = ", ".join(one.hex()[:8] for one in sorted(timeline.sessions)[:8]) or "none"
        raise click.UsageError(f"--session {session}: {len(matches)} sessions begin so; heard of: {known}")
    return timeline_of(heard, SessionId(matches[0]))
