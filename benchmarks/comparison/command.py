"""The command line of ``benchmarks/engine.py``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipespec.cli.progress import progress_bar
from pipespec.models.fetch import fetch
from pipespec.ops.errors import PipespecError

from . import machine, picture, table
from .contender import CONTENDERS, Contender, choose
from .course import Course
from .job_progress import watching
from .memory import Churn
from .plan import Plan, make_plan
from .prompt import Kind
from .result import Result
from .setup import THREAD_VARIABLES, Setup
from .worker import JobFailed

EMBEDDED = "embedded:smollm2-135m-instruct"
RESULTS = Path(__file__).parent.parent / "results"
FILE_WIDTH = 140
"""Of the tables, where there is no terminal that has one."""
QUICK_DEFAULTS = {
    "sessions": "2",
    "tokens": 12,
    "contenders": "continuous-batching,engine,chain",
    "kinds": Kind.CODE.value,
}
QUICK_PLAN: dict[str, Any] = {
    "checks_first": False,  # what is timed is compared anyway
    "churn": Churn(num_sessions=50, num_before=20),
}


def _quick(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    """Change the defaults of the other options; what is given with them still counts."""
    if value:
        context.default_map = QUICK_DEFAULTS
    return value


def _sessions(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] < 1:
        raise click.BadParameter(
            f"expected positive numbers separated by commas, such as 1,4,8,16; got {value!r}"
        )
    return numbers


def _contenders(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[Contender, ...]:
    try:
        return CONTENDERS if value is None else choose(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _kinds(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[Kind, ...]:
    try:
        return tuple(Kind(name.strip()) for name in dict.fromkeys(value.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{error}; there are: {', '.join(Kind)}") from error


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", default=EMBEDDED, help="Folder, hub id, .gguf file or embedded model: the target of all."
)
@click.option("--assistant", help="A smaller model of the same vocabulary, for assisted generation.")
@click.option("--sessions", default="1,4,8,16", callback=_sessions, help="Numbers of sessions at once.")
@click.option("--tokens", default=64, type=click.IntRange(1, 4096), help="Most that a session generates.")
@click.option(
    "--rounds", default=1, type=click.IntRange(1, 99), help="Of every cell; the median speed counts."
)
@click.option(
    "--contenders",
    callback=_contenders,
    help=f"Some of {', '.join(one.name for one in CONTENDERS)}; separated by commas. All by default.",
)
@click.option("--kinds", default=",".join(Kind), callback=_kinds, help="Of prompts, separated by commas.")
@click.option("--threads", default=1, type=click.IntRange(1, 256), help="Compute threads of every contender.")
@click.option("--device", default="cpu", help="cpu, cuda, cuda:N or auto.")
@click.option("--dtype", default="float32", type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option(
    "--out", default=RESULTS, type=click.Path(path_type=Path, file_okay=False), help="Folder of the results."
)
@click.option(
    "--quick",
    is_flag=True,
    is_eager=True,
    callback=_quick,
    help="A smoke test: one small cell, few contenders; its figures mean nothing.",
)
def main(*, model: str, assistant: str | None, quick: bool, out: Path, **options: Any) -> None:
    """Compare our engine and chain with transformers: equal token ids first, then speed and memory."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(options["threads"])))
    try:
        result = _compare(model, assistant, quick=quick, **options)
    except PipespecError as error:
        raise click.ClickException(str(error)) from error
    except JobFailed as error:
        raise click.ClickException(f"the reference, which all are compared with, failed: {error}") from error
    file = out / f"engine-{'quick-' * quick}{machine.slug(result.machine['device'])}.json"
    result.write(file)
    picture.draw(result, file.with_suffix(".svg"))
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    table.show(result, console)
    click.echo(f"written: {file}, {file.with_suffix('.svg').name}")


def _compare(
    model: str,
    assistant: str | None,
    *,
    quick: bool,
    sessions: tuple[int, ...],
    tokens: int,
    rounds: int,
    contenders: tuple[Contender, ...],
    kinds: tuple[Kind, ...],
    **common: Any,
) -> Result:
    setup = Setup(folder=_fetch(model), assistant=_fetch(assistant) if assistant else None, **common)
    plan = make_plan(
        setup.folder,
        contenders=contenders,
        kinds=kinds,
        sessions=sessions,
        max_tokens=tokens,
        rounds=rounds,
        **(QUICK_PLAN if quick else {}),
    )
    described = machine.describe(machine.device_name(setup.device))
    with watching(plan.num_jobs) as watch:
        course = Course(plan, setup, watch=watch)
        course.run()
    return make_result(course, plan, setup, model=model, described=described)


def _fetch(reference: str) -> Path:
    with progress_bar() as on_progress:
        return fetch(reference, on_progress=on_progress)


def make_result(course: Course, plan: Plan, setup: Setup, *, model: str, described: dict[str, Any]) -> Result:
    """What a course that is through has found."""
    return Result(
        machine=described,
        settings={
            "model": model,
            "assistant": setup.assistant.name if setup.assistant else None,
            "dtype": setup.dtype,
            "threads": setup.threads,
            "sessions": list(plan.sessions),
            "tokens": plan.max_tokens,
            "rounds": plan.rounds,
            "check_prompts": plan.check_prompts,
            "check_tokens": plan.check_tokens,
        },
        prompts={kind: {one.name: len(one.ids) for one in prompts} for kind, prompts in plan.prompts.items()},
        entries=list(course.entries.values()),
        memory=course.memory,
        memory_reason=course.memory_reason,
    )
