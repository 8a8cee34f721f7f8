"""``pipespec deploy``: a values file of the chart, rendered or looked at by the planner, before anything is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group()
def deploy() -> None:
    """Look at a release before it is installed: `helm install` does the rest."""


def _release_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The values, and what else ``helm`` would be told."""
    path = click.Path(path_type=Path)
    options = (
        click.argument("values", type=path, nargs=-1, required=True),
        click.option(
            "--set", "sets", multiple=True, metavar="KEY=VALUE", help="As of Helm; may be repeated."
        ),
        click.option(
            "--api-versions",
            multiple=True,
            metavar="GROUP/VERSION",
            help="That the cluster has, as of Helm: monitors and rules are made where it has their kinds.",
        ),
        click.option("--name", default="pipespec", show_default=True, help="Of the release."),
        click.option("--namespace", default="default", show_default=True, help="It goes to."),
        click.option("--chart", type=path, help="Folder or archive; the one of this version by default."),
        click.option("--helm", default="helm", show_default=True, help="The program."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@deploy.command()
@_release_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File instead of the terminal.")
def render(*, out: Path | None, **release: Any) -> None:
    """Print the Kubernetes manifests of the VALUES files, as Helm makes them."""
    from pipespec.cli.cluster.chart import Release  # noqa: PLC0415 - `--help` does without
    from pipespec.cli.cluster.chart import render as rendered  # noqa: PLC0415
    from pipespec.cli.outputs import check_can_write  # noqa: PLC0415

    check_can_write("--out", out)
    manifests = rendered(Release(**release))
    if out is None:
        click.echo(manifests, nl=False)
    else:
        out.write_text(manifests, encoding="utf-8")


@deploy.command()
@_release_options
@click.option(
    "--profile", type=click.Path(path_type=Path), help="What `pipespec profile --out` wrote of this pipeline."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 where there is a warning.")
def check(*, profile: Path | None, as_json: bool, strict: bool, **release: Any) -> int:
    """Say what the VALUES files need and bring: GPUs, expected tokens/s, and what cannot pay.

    Stages that run models need a profile for expected speeds, --profile or the autoscaler's; emulated ones tell their own.
    """
    import json  # noqa: PLC0415 - `--help` does without

    from pipespec.cli.cluster.advice import advise  # noqa: PLC0415
    from pipespec.cli.cluster.chart import Release, documents  # noqa: PLC0415
    from pipespec.cli.cluster.chart import render as rendered  # noqa: PLC0415
    from pipespec.cli.cluster.footprint import footprint_of  # noqa: PLC0415
    from pipespec.cli.cluster.report import document, show  # noqa: PLC0415
    from pipespec.cli.progress import stderr  # noqa: PLC0415
    from pipespec.ops.pipeline import load_pipeline  # noqa: PLC0415

    footprint = footprint_of(documents(rendered(Release(**release))))
    measured = footprint.profile if profile is None else load_pipeline(profile)
    with stderr.status("reading") as status:
        advice = advise(footprint, measured, on_progress=status.update)
    if as_json:
        click.echo(json.dumps(document(footprint, advice), indent=1))
    else:
        show(footprint, advice)
    return 1 if strict and advice.warnings else 0
