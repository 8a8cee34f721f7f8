"""The picture: tokens/s of every contender, grouped by the number of sessions, a panel per kind of prompt."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .prompt import Kind
from .result import Entry, Result, Status

OURS = ("#08519c", "#3182bd", "#6baed6", "#9ecae1")
THEIRS = ("#252525", "#525252", "#737373", "#969696", "#bdbdbd", "#d9d9d9", "#e8e8e8")
GROUP_WIDTH = 0.86
SIZE_INCHES = (11.0, 8.5)


def draw(result: Result, file: Path) -> None:
    """Write the picture; the suffix of ``file`` (.svg, .png) decides its format."""
    entries = [entry for entry in result.entries if entry.cells]
    with mpl.rc_context({"svg.hashsalt": "pipespec", "svg.fonttype": "none"}):  # equal results, equal files
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        panels = figure.subplots(len(result.prompts), 1, squeeze=False)[:, 0]
        for axes, kind in zip(panels, result.prompts, strict=True):
            _panel(axes, kind, entries, result.settings["sessions"])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=3)
        figure.suptitle(_title(result), fontsize=10)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _panel(axes: Axes, kind: Kind, entries: list[Entry], sessions: list[int]) -> None:
    width = GROUP_WIDTH / max(1, len(entries))
    colours = _colours(entries)
    for place, entry in enumerate(entries):
        measured = [(at, cell) for at, n in enumerate(sessions) if (cell := entry.cell(kind, n)) is not None]
        offset = (place + 0.5) * width - GROUP_WIDTH / 2
        mark = " (ids differ)" if entry.status is Status.DIFFERS else ""
        bars = axes.bar(
            [at + offset for at, _ in measured],
            [cell.tokens_per_s for _, cell in measured],
            width,
            label=f"{entry.title}, {entry.serving}{mark}",
            color=colours[entry.name],
            hatch="//" if mark else None,
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=6)
    axes.set_xticks(range(len(sessions)), [f"{n} session{'s' * (n > 1)}" for n in sessions])
    axes.set_ylabel(f"{kind}: tokens/s")
    axes.spines[["top", "right"]].set_visible(False)


def _colours(entries: list[Entry]) -> dict[str, str]:
    colours = {}
    for palette, is_ours in ((OURS, True), (THEIRS, False)):
        names = [entry.name for entry in entries if entry.is_ours is is_ours]
        colours.update({name: palette[index % len(palette)] for index, name in enumerate(names)})
    return colours


def _title(result: Result) -> str:
    machine, settings = result.machine, result.settings
    return (
        f"{settings['model']}, {settings['dtype']}, {settings['threads']} thread(s), {settings['tokens']} tokens, greedy; "
        f"{machine['device']}, {machine['date'][:10]}, commit {machine['commit'][:10]}"
    )
