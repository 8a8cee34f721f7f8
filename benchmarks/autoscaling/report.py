"""The table, the file and the picture of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.autoscaling.comparison import Row

from pipespec.cli.pictures import picture

HEAD = (
    "| load | policy | goal kept | with waiting | GPU-hours | refused | scalings |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)
PANEL_INCHES = (4.2, 2.2)
DRAWN = {"ours": "#08519c", "HPA, busy 80%": "#d94801", "HPA, sessions": "#969696"}
"""Policies in the picture, by how their names begin."""


def line(row: Row) -> str:
    """One row of the table, in Markdown."""
    outcome = row.outcome
    refused = outcome.refused / max(1, outcome.sessions)
    return (
        f"| {row.load} | {row.policy} | {outcome.kept_share:.1%} | {outcome.kept_waiting_share:.1%} | "
        f"{outcome.gpu_hours:.1f} | {refused:.1%} | {outcome.scalings} |"
    )


def document(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "load": row.load,
            "policy": row.policy,
            "sessions": row.outcome.sessions,
            "kept": round(row.outcome.kept_share, 4),
            "kept_with_waiting": round(row.outcome.kept_waiting_share, 4),
            "gpu_hours": round(row.outcome.gpu_hours, 2),
            "refused": row.outcome.refused,
            "scalings": row.outcome.scalings,
        }
        for row in rows
    ]


def draw(rows: Sequence[Row], file: Path) -> None:
    """GPUs over time, a panel per load, with the sessions behind them.

    Raises:
        SettingsError: matplotlib is missing, or the suffix names no format.
    """
    loads = list(dict.fromkeys(row.load for row in rows))
    width, height = PANEL_INCHES
    with picture(file, inches=(2 * width, height * ((len(loads) + 1) // 2))) as figure:
        panels = figure.subplots((len(loads) + 1) // 2, 2, squeeze=False).flatten()
        for axes, load in zip(panels, loads, strict=False):
            sessions = next(row.outcome.course for row in rows if row.load == load and row.policy == "ours")
            behind = axes.twinx()
            behind.fill_between([at for at, _, _ in sessions], [n for _, n, _ in sessions], color="0.92")
            behind.set_ylabel("sessions", fontsize=8, color="0.6")
            axes.set_zorder(behind.get_zorder() + 1)
            axes.patch.set_visible(False)
            for row in rows:
                colour = _colour(row.policy)
                if row.load == load and colour:
                    course = row.outcome.course
                    axes.step(
                        [at for at, _, _ in course],
                        [g for _, _, g in course],
                        color=colour,
                        lw=1,
                        label=row.policy,
                    )
            axes.set_title(load, fontsize=9)
            axes.set_xlabel("hours", fontsize=8)
            axes.set_ylabel("GPUs", fontsize=8)
            axes.legend(fontsize=6, frameon=False)
        for axes in panels[len(loads) :]:
            axes.set_visible(False)


def _colour(policy: str) -> str | None:
    is_other = policy.startswith("HPA, busy") and policy.endswith("(best for this load)")
    if is_other or policy.startswith("ours, ") or policy.endswith("(best for all)"):
        return None
    return next((colour for name, colour in DRAWN.items() if policy.startswith(name)), None)
