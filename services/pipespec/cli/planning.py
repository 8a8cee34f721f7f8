"""Makes a plan and shows it: a table and advice on the terminal, JSON, and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from pipespec.cli.pictures import check_can_draw
from pipespec.cli.progress import progress_bar
from pipespec.emulation.chain import curve_of, emulation_of, name_of
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageKind
from pipespec.planner.search import Comparison, Option, compare, num_searches
from pipespec.planner.sizing import Demand, Sizing, size

_TABLE_WIDTH = 118
_UNBOUNDED = 10_000
_PERCENT_WORTH_SAYING = 3
_SHORTEST_CONTEXT = 3


def make_plan(pipeline: Pipeline, demand: Demand | None, *, as_json: bool, plot: Path | None) -> None:
    """Compare all variants, size the best one for ``demand``, and show both.

    Raises:
        SettingsError: a stage is not emulated, its context holds too little, or nothing can draw.
    """
    _check_is_measured(pipeline)
    if demand is not None:
        _check_fits(pipeline, demand)
    if plot is not None:
        check_can_draw(plot)
    with progress_bar() as on_progress:
        total, done = num_searches(len(pipeline.stages)), 0

        def tell() -> None:
            nonlocal done
            done += 1
            on_progress("simulating chains and lookaheads", min(1.0, done / total))

        comparison = compare(pipeline, on_progress=tell)
        sizing = None
        if demand is not None:
            on_progress("simulating replicas under load", 0.0)
            sizing = size(comparison.best.pipeline, demand)
    if plot is not None:
        from pipespec.cli.plan_picture import draw  # noqa: PLC0415 - matplotlib is in the extra 'bench'

        draw(comparison, plot)
    if as_json:
        document = plan_document(pipeline, comparison, demand, sizing)
        print(json.dumps(document, indent=1))  # noqa: T201 - the output
        return
    table = _table(pipeline, comparison)
    console = _wide_enough(table)
    console.print(table)
    for line in advice(pipeline, comparison):
        console.print(line, highlight=False)
    if demand is not None and sizing is not None:
        console.print(_sizing_line(demand, sizing), highlight=False)
        console.print(_sizing_table(comparison.best, sizing))


def _wide_enough(table: Table) -> Console:
    """A table keeps its words, also where the output is not a terminal: cut figures are wrong figures."""
    console = Console()
    unbounded = console.options.update(max_width=_UNBOUNDED)
    console.width = max(console.width, _TABLE_WIDTH, Measurement.get(console, unbounded, table).maximum)
    return console


def _check_is_measured(pipeline: Pipeline) -> None:
    for rank, stage in enumerate(pipeline.stages):
        if stage.kind is not StageKind.EMULATED:
            raise SettingsError(
                f"stages[{rank}] is of kind {stage.kind.value!r}: its speed and agreement are not known; measure them with "
                "`pipespec profile FILE --out profile.yaml`, and plan that file"
            )
        if curve_of(stage).ms(1) <= 0:
            raise SettingsError(
                f"stages[{rank}].emulation.latency_ms: a step takes no time; nothing can be planned with it"
            )
        context_len = emulation_of(stage).context_len
        if context_len < _SHORTEST_CONTEXT:
            raise SettingsError(
                f"stages[{rank}].emulation.context_len is {context_len}: a prompt and the two tokens that a time per token "
                f"needs take {_SHORTEST_CONTEXT}"
            )


def _check_fits(pipeline: Pipeline, demand: Demand) -> None:
    context_len = emulation_of(pipeline.target).context_len
    if demand.prompt + demand.tokens > context_len:
        raise SettingsError(
            f"{demand.prompt} + {demand.tokens} tokens of a request do not fit into the target's context_len of {context_len}; "
            "give a smaller --prompt or --tokens"
        )


def _table(pipeline: Pipeline, comparison: Comparison) -> Table:
    table = Table(
        title=f"{pipeline.name}: one stream, predicted by simulation of the protocol", title_justify="left"
    )
    for name in (
        "chain",
        "mode",
        "lookahead",
        "ms/token",
        "closed form",
        "speed-up",
        "tokens/step",
        "busy",
        "",
    ):
        table.add_column(name, justify="left" if name in ("chain", "mode", "") else "right", no_wrap=True)
    rows = [("target alone", comparison.alone), ("as in the file", comparison.as_given)]
    rows += [("free-running", option) for option in comparison.free]
    rows += [("synchronous", option) for option in comparison.synchronous]
    for mode, option in rows:
        prediction = option.prediction
        table.add_row(
            option.name,
            mode,
            ", ".join(str(length) for length in option.lookaheads) or "-",
            f"{prediction.ms_per_token:.1f} ± {prediction.error_ms:.1f}",
            f"{prediction.analytic_ms:.1f}",
            f"{option.speed_up:.2f}x",
            f"{prediction.tokens_per_step:.2f}",
            " ".join(f"{busy:.0%}" for busy in prediction.busy),
            "← best" if option is comparison.best else "",
        )
    return table


def advice(pipeline: Pipeline, comparison: Comparison) -> list[str]:
    """What the figures mean for whoever runs the pipeline."""
    best, given = comparison.best, comparison.as_given
    lines = []
    if best is comparison.alone:
        lines.append("No draft pays: serve the target alone.")
    else:
        lengths = ", ".join(
            f"{name_of(pipeline.stages[rank], rank)} {length}"
            for rank, length in zip(best.ranks, best.lookaheads, strict=False)
        )
        lines.append(f"Best: {best.name}, lookahead {lengths}: {best.speed_up:.2f}x.")
    dropped = [name_of(pipeline.stages[rank], rank) for rank in given.ranks if rank not in best.ranks]
    if dropped:
        lines.append(f"Does not pay: {', '.join(dropped)}; without it the chain is faster, or hardly slower.")
    gain = 100 * (given.prediction.ms_per_token / best.prediction.ms_per_token - 1)
    if gain > _PERCENT_WORTH_SAYING and not dropped and best.lookaheads != given.lookaheads:
        lines.append(f"The lookaheads in the file cost {gain:.0f} % more time per token.")
    rival = comparison.best_synchronous
    if rival is not None:
        ratio = rival.prediction.ms_per_token / best.prediction.ms_per_token
        lines.append(
            f"Against the best synchronous pair ({rival.name}, lookahead "
            f"{rival.lookaheads[0]}): {ratio:.2f}x."
        )
    return lines


def _sizing_line(demand: Demand, sizing: Sizing) -> str:
    verdict = "met" if sizing.is_met else "NOT met: more replicas do not help, a faster chain would"
    return (
        f"{demand.sessions} streams at once, {demand.prompt} + {demand.tokens} tokens each; goal {demand.goal_ms:g} ms/token "
        f"for nine of ten: {verdict} ({sizing.ms_per_token:.1f} ms, first token {sizing.first_token_ms:.0f} ms)"
    )


def _sizing_table(best: Option, sizing: Sizing) -> Table:
    table = Table()
    for name in ("stage", "replicas", "streams per replica", "busy"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for index, stage in enumerate(best.pipeline.stages):
        table.add_row(
            name_of(stage, best.ranks[index]),
            str(sizing.replicas[index]),
            str(sizing.sessions_per_replica[index]),
            f"{sizing.busy[index]:.0%}",
        )
    return table


def plan_document(
    pipeline: Pipeline, comparison: Comparison, demand: Demand | None, sizing: Sizing | None
) -> dict[str, Any]:
    """The plan for JSON; times are milliseconds."""

    def document(option: Option) -> dict[str, Any]:
        prediction = option.prediction
        return {
            "stages": list(option.ranks),
            "lookaheads": list(option.lookaheads),
            "ms_per_token": prediction.ms_per_token,
            "error_ms": prediction.error_ms,
            "analytic_ms_per_token": prediction.analytic_ms,
            "speed_up": option.speed_up,
            "tokens_per_target_step": prediction.tokens_per_step,
            "busy": list(prediction.busy),
        }

    rival = comparison.best_synchronous
    plan = {
        "pipeline": pipeline.name,
        "alone": document(comparison.alone),
        "as_given": document(comparison.as_given),
        "free_running": [document(option) for option in comparison.free],
        "synchronous": [document(option) for option in comparison.synchronous],
        "best": document(comparison.best),
        "best_synchronous": document(rival) if rival else None,
        "advice": advice(pipeline, comparison),
    }
    if demand is not None and sizing is not None:
        plan["load"] = {
            "sessions": demand.sessions,
            "goal_ms_per_token": demand.goal_ms,
            "prompt": demand.prompt,
            "tokens": demand.tokens,
            "replicas": list(sizing.replicas),
            "sessions_per_replica": list(sizing.sessions_per_replica),
            "ms_per_token_p90": sizing.ms_per_token,
            "first_token_ms_p90": sizing.first_token_ms,
            "busy": list(sizing.busy),
            "is_met": sizing.is_met,
        }
    return plan
