"""Tokens over time, as the paper draws them: a panel per chain, a course per mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipespec.bench.paper import PaperRow
from pipespec.bench.recorded import Mode
from pipespec.cli.pictures import picture

PANEL_INCHES = (4.0, 3.6)
COLOURS = {Mode.ALONE: "#969696", Mode.SYNCHRONOUS: "#fd8d3c", Mode.PIPELINE: "#08519c"}


def draw(rows: Sequence[PaperRow], file: Path) -> None:
    """Write the picture.

    Raises:
        SettingsError: matplotlib is missing, or the suffix names no format.
    """
    width, height = PANEL_INCHES
    with picture(file, inches=(width * len(rows), height)) as figure:
        panels = figure.subplots(1, len(rows), sharex=True, sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, rows, strict=True):
            for mode, cell in row.cells.items():
                counts = range(1, len(cell.course.at_s) + 1)
                label = f"{mode.value}: {cell.mean_ms:.0f} ms/token"
                axes.step(cell.course.at_s, counts, where="post", color=COLOURS[mode], label=label)
            axes.set_title(f"{row.chain.name}: {row.speed_up(Mode.PIPELINE):.2f}x", fontsize=10)
            axes.set_xlabel("seconds")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(fontsize=8)
        panels[0].set_ylabel("tokens of one text")
