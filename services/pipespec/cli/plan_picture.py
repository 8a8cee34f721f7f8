"""A picture of a plan: time per token by the lookahead of the last draft, one line per chain."""

from __future__ import annotations

from pathlib import Path

from pipespec.cli.pictures import picture
from pipespec.planner.search import LOOKAHEADS, Comparison

SIZE_INCHES = (7.5, 4.5)


def draw(comparison: Comparison, file: Path) -> None:
    """Write the picture.

    Raises:
        SettingsError: matplotlib is missing, or the suffix names no format.
    """
    with picture(file, inches=SIZE_INCHES) as figure:
        axes = figure.subplots()
        for style, options in (("-o", comparison.free), ("--x", comparison.synchronous)):
            for option in options:
                lengths, times = zip(*option.by_last_lookahead, strict=True)
                mode = "" if style == "-o" else ", synchronous"
                axes.plot(lengths, times, style, label=option.name + mode)
        axes.axhline(comparison.alone.prediction.ms_per_token, color="0.5", label="target alone")
        axes.set_xscale("log", base=2)
        axes.set_xticks(LOOKAHEADS, [str(length) for length in LOOKAHEADS])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("lookahead of the last draft, the others at their best")
        axes.set_ylabel("ms per token")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
