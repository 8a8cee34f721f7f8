"""The demo's table: the same request by the chain and by its target alone, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from pipespec.cli.measured import Measured
from pipespec.client import StageReport


def show_summary(chain: Measured, alone: Measured) -> None:
    """Print the table on stdout."""
    table = Table("", "chain", "target alone", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, ours, theirs in rows(chain, alone):
        table.add_row(name, ours, theirs)
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print("* tokens that one step brings arrive together: 0 ms apart")
    if alone.tokens_per_s:
        console.print(f"speed-up: {chain.tokens_per_s / alone.tokens_per_s:.2f}x")


def rows(chain: Measured, alone: Measured) -> Iterator[tuple[str, str, str]]:
    """Name, figure of the chain, figure of the target alone."""

    def row(name: str, figure: Callable[[Measured], str]) -> tuple[str, str, str]:
        return name, figure(chain), figure(alone)

    yield row("tokens", lambda run: str(run.num_tokens))
    yield row("tokens/s", lambda run: f"{run.tokens_per_s:.1f}")
    yield row("time to first token", lambda run: f"{run.first_token_s * 1000:.0f} ms")
    yield row("between tokens, p50 *", lambda run: f"{run.gap_s(50) * 1000:.1f} ms")
    yield row("between tokens, p95 *", lambda run: f"{run.gap_s(95) * 1000:.1f} ms")
    yield row("tokens per target step", lambda run: _number(run.tokens_per_target_step))
    for stage in chain.completion.stats[1:]:
        yield f"accepted by stage {stage.rank}", _acceptance(stage), "-"
        yield f"rollbacks by stage {stage.rank}", str(stage.rollbacks), "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _acceptance(stage: StageReport) -> str:
    if stage.checked == 0:
        return "none checked"
    return f"{stage.accepted / stage.checked:.0%} ({stage.accepted} of {stage.checked})"
