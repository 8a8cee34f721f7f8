"""``pipespec top``: a running fleet, live."""

from __future__ import annotations

from pathlib import Path

import click

from pipespec.cli.local.run_folder import NotRunning, serving_pipeline


@click.command()
@click.option("--name", help="Which running pipeline, if there are several.")
@click.option(
    "--pipeline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that the services were started with, where `pipespec up` did not start them: in a pod.",
)
@click.option("--replicas", is_flag=True, help="A line for every replica.")
@click.option("--once", is_flag=True, help="Look for some seconds, print, end.")
@click.option("--json", "as_json", is_flag=True, help="Look for some seconds, print JSON, end.")
@click.option(
    "--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between looks."
)
def top(
    *, name: str | None, pipeline: Path | None, replicas: bool, once: bool, as_json: bool, every: float
) -> None:
    """Show stages, replicas, sessions, acceptance and tokens/s of a running fleet until Ctrl-C.

    In a cluster: kubectl exec -it deploy/RELEASE-gateway -- pipespec top --pipeline /etc/pipespec/pipeline.yaml
    """
    from pipespec.cli.watching import look, watch  # noqa: PLC0415 - `--help` does without
    from pipespec.ops.pipeline import load_pipeline  # noqa: PLC0415 - as above

    if pipeline is not None and name is not None:
        raise click.UsageError("--name and --pipeline exclude each other")
    running = load_pipeline(pipeline) if pipeline is not None else serving_pipeline(name)
    if running is None:
        raise NotRunning(
            "no pipeline is running; start one with `pipespec up`, or name the services' file with --pipeline"
        )
    if once or as_json:
        look(running, replicas=replicas, as_json=as_json)
    else:
        watch(running, replicas=replicas, every_s=every)
