"""``pipespec profile``: measures how fast the stages of a pipeline are, and how often they agree."""

from __future__ import annotations

from pathlib import Path

import click

from pipespec.cli.local.document import read_pipeline
from pipespec.cli.local.run_folder import NotRunning, serving_pipeline
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.outputs import check_can_write


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="Measure this running pipeline, instead of running FILE.")
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One prompt per line; yours tell more of your load than the built-in ones.",
)
@click.option("--tokens", default=96, show_default=True, type=click.IntRange(16, 4096), help="Per prompt.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("profile.yaml"), show_default=True
)
def profile(file: Path | None, *, name: str | None, prompts: Path | None, tokens: int, out: Path) -> None:
    """Measure latency curves and agreements of the pipeline in FILE, or of a running one, and write them to --out.

    What is written is a pipeline file of emulated stages: `pipespec plan` reads it, and `pipespec up` runs it.
    """
    from pipespec.cli.profiling import measure, read_prompts, write_profile  # noqa: PLC0415 - `--help` does without

    if file is not None and name is not None:
        raise click.UsageError("give either FILE or --name")
    check_can_write("--out", out)
    asked = read_prompts(prompts)
    if file is not None:
        with temporary_pipeline(read_pipeline(file)) as running:
            measurement = measure(running, asked, tokens)
    else:
        serving = serving_pipeline(name)
        if serving is None:
            raise NotRunning("no pipeline is running; start one with `pipespec up`, or name a file")
        running = serving
        measurement = measure(running, asked, tokens)
    write_profile(running, measurement, out)
