"""``pipespec trace``: what every stage did and when, as a file for Perfetto or Chrome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipespec.cli.gateway_choice import credential_options
from pipespec.cli.local.document import read_pipeline
from pipespec.cli.local.run_folder import NotRunning, serving_pipeline
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.outputs import check_can_write
from pipespec.cli.sampling_options import sampling_options


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
@credential_options
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
    api_key: str | None,
    ca: Path | None,
    name: str | None,
    pipeline: Path | None,
) -> None:
    """Answer PROMPT and write every step, publication and rollback on the way to --out.

    Without PROMPT, listen to the sessions that run. Open the file in https://ui.perfetto.dev or chrome://tracing.
    """
    from pipespec.cli.tracing import chosen, record  # noqa: PLC0415 - `--help` does without

    if (prompt is None) == (seconds is None):
        raise click.UsageError("give either PROMPT or --seconds")
    check_can_write("--out", out)
    if pipeline is not None:
        with temporary_pipeline(read_pipeline(pipeline)) as running:
            heard = record(running, prompt, options, seconds, api_key=None, ca=None)
    else:
        serving = serving_pipeline(name)
        if serving is None:
            raise NotRunning(
                "no pipeline is running; start one with `pipespec up`, or name a file with --pipeline"
            )
        heard = record(serving, prompt, options, seconds, api_key=api_key, ca=ca)
    timeline = chosen(heard, session)
    out.write_text(json.dumps(timeline.document()), encoding="utf-8")
    click.echo(
        f"{out}: {timeline.num_steps} steps and {timeline.num_rollbacks} rollbacks of {len(timeline.sessions)} sessions"
    )
