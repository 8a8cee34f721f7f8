"""The result for people: a table per measure, then what is not equal, failed or was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from .memory import MemoryRow
from .prompt import Kind
from .result import Cell, Entry, Result, Status

MEASURES: dict[str, tuple[Callable[[Cell], float], str, bool]] = {
    "tokens/s": (lambda cell: cell.tokens_per_s, ".1f", True),
    "seconds to the first token (median over sessions)": (lambda cell: cell.first_token_s, ".2f", False),
    "peak memory of all its processes, MiB": (lambda cell: cell.peak_rss_mib, ".0f", False),
}
"""Title: value, format, whether more is better."""
SHOWN_FORKS = 8
MARKS = {Status.EQUAL: "=", Status.DIFFERS: "≠", Status.FAILED: "failed", Status.SKIPPED: "-"}


def show(result: Result, console: Console) -> None:
    """Print everything."""
    console.print(
        f"[bold]{result.machine['device']}[/], {result.machine['date']}, commit {result.machine['commit'][:10]}"
    )
    for title in MEASURES:
        console.print(measure_table(result, title))
    for line in remarks(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def measure_table(result: Result, title: str) -> Table:
    """One measure: a row per contender, a column per kind of prompt and number of sessions."""
    value, form, more_is_better = MEASURES[title]
    columns = [(kind, sessions) for kind in result.prompts for sessions in result.settings["sessions"]]
    table = Table(title=title, title_justify="left")
    for name in ("contender", "several sessions", "ids"):
        table.add_column(name)
    for kind, sessions in columns:
        table.add_column(f"{kind}\n{sessions}", justify="right")
    best = {column: _best(result, *column, value=value, more_is_better=more_is_better) for column in columns}
    for entry in result.entries:
        cells = [_text(entry.cell(*column), value=value, form=form, best=best[column]) for column in columns]
        table.add_row(entry.title, entry.serving, MARKS[entry.status], *cells)
    return table


def _best(
    result: Result, kind: Kind, sessions: int, *, value: Callable[[Cell], float], more_is_better: bool
) -> float | None:
    values = [value(cell) for entry in result.entries if (cell := entry.cell(kind, sessions)) is not None]
    return (max if more_is_better else min)(values, default=None)


def _text(cell: Cell | None, *, value: Callable[[Cell], float], form: str, best: float | None) -> str:
    if cell is None:
        return ""
    text = format(value(cell), form) + ("*" if cell.num_different else "")
    return f"[bold]{text}[/]" if value(cell) == best else text


def remarks(result: Result) -> Iterator[str]:
    """What the tables do not say."""
    for entry in result.entries:
        yield from _remarks_on(entry)
    if result.memory is not None:
        yield _memory_line(result.memory)
    else:
        yield f"memory after many sessions: failed: {result.memory_reason}"


def _remarks_on(entry: Entry) -> Iterator[str]:
    name = f"{entry.title}, {entry.serving}"
    if entry.status in (Status.FAILED, Status.SKIPPED):
        yield f"{name}: {entry.status}: {entry.reason}"
    if entry.forks:
        yield f"{name}: {len(entry.forks)} of {entry.num_compared} outputs differ from the reference (*):"
    for fork in entry.forks[:SHOWN_FORKS]:
        gap = "" if fork.gap is None else f"; their logits are {fork.gap:.2g} apart"
        yield (
            f"    {fork.prompt}, {fork.sessions} at once: at token {fork.position} "
            f"{_word(fork.expected)} expected, {_word(fork.got)} came{gap}"
        )

    if len(entry.forks) > SHOWN_FORKS:
        yield f"    and {len(entry.forks) - SHOWN_FORKS} more, in the JSON file"


def _word(token: int | None) -> str:
    return "the end" if token is None else str(token)


def _memory_line(row: MemoryRow) -> str:
    return (
        f"memory: {row.num_sessions} sessions came and went through the engine: "
        f"{row.rss_before_mib:.1f} MiB before, {row.rss_after_mib:.1f} MiB after; blocks held by sessions: "
        f"{row.blocks_before} before, {row.blocks_after} after; kept for their content: {row.cached_after} "
        f"of {row.num_blocks}"
    )
