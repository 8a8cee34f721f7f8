"""What the rows measured: samples by row, the table that ``make chaos`` prints, the JSON that it writes."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from benchmarks.comparison.machine import cpu_name, describe, slug

BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"


@dataclass
class Measured:
    """One row of the table.

    Attributes:
        row: of the specification, such as ``A3``.
        fault: in a few words.
        fleet: ``emulated``, ``model``, …
        what: is measured, in seconds.
        bound_s: of the specification; none where it names none.
        samples_s: one per repetition: the worst of its sessions.
        notes: further figures, one list entry per repetition.
        timers: of the pipeline file, milliseconds.
    """

    row: str
    fault: str
    fleet: str
    what: str
    bound_s: float | None
    timers: dict[str, float]
    samples_s: list[float] = field(default_factory=list)
    notes: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, notes: dict[str, float]) -> None:
        """One repetition."""
        self.samples_s.append(round(seconds, 4))
        for name, value in notes.items():
            self.notes.setdefault(name, []).append(round(value, 4))

    @property
    def p50_s(self) -> float:
        return statistics.median(self.samples_s)

    @property
    def max_s(self) -> float:
        return max(self.samples_s)

    @property
    def is_within(self) -> bool | None:
        """Whether the worst repetition kept the bound."""
        return None if self.bound_s is None else self.max_s <= self.bound_s


def _cells(row: Measured) -> str:
    bound = "" if row.bound_s is None else f"{row.bound_s:g}"
    missed = " (missed)" if row.is_within is False else ""
    also = ", ".join(f"{name} {max(values):.4g}" for name, values in row.notes.items())
    cells = (
        row.row,
        row.fault,
        row.fleet,
        row.what,
        str(len(row.samples_s)),
        f"{row.p50_s:.2f}",
        f"{row.max_s:.2f}",
    )
    return "| " + " | ".join((*cells, bound + missed, also)) + " |"


class Report:
    """Of one run."""

    def __init__(self) -> None:
        self.rows: list[Measured] = []
        self._loads = [os.getloadavg()[0]]
        self._cpu = psutil.cpu_times()

    def add(self, measured: Measured) -> None:
        """A row that was measured to its end, exactly."""
        self.rows.append(measured)
        self._loads.append(os.getloadavg()[0])

    def lines(self) -> list[str]:
        """The table."""
        lines = [f"{'row':<7}{'fault':<58}{'fleet':<10}{'n':>3}{'p50 s':>8}{'max s':>8}{'bound':>7}  ok"]
        for row in self._sorted():
            bound = "-" if row.bound_s is None else f"{row.bound_s:g}"
            ok = {None: "-", True: "yes", False: "NO"}[row.is_within]
            count = len(row.samples_s)
            lines.append(
                f"{row.row:<7}{row.fault[:57]:<58}{row.fleet:<10}{count:>3}{row.p50_s:>8.2f}{row.max_s:>8.2f}{bound:>7}  {ok}"
            )
        lines.append(f"load of the machine while it ran: {min(self._loads):.1f} to {max(self._loads):.1f}")
        return lines

    def into(self, page: Path) -> None:
        """Put the table between the page's marks."""
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        load = f"load {min(self._loads):.0f} to {max(self._loads):.0f} while it ran"
        lines = [
            f"{cpu_name()}, {psutil.cpu_count()} threads, {load}, {datetime.now(UTC):%Y-%m-%d}:",
            "",
            "| row | fault | fleet | measured | n | p50 s | max s | bound s | also (worst) |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_cells(row) for row in self._sorted()),
        ]
        page.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}")

    def _sorted(self) -> list[Measured]:
        return sorted(self.rows, key=lambda row: (int(row.row[1:].split("/")[0]), row.row, row.fleet))

    def write(self, folder: Path) -> Path:
        """``chaos-<device>.json``."""
        file = folder / f"chaos-{slug(cpu_name())}.json"
        rows = [asdict(r) | {"p50_s": r.p50_s, "max_s": r.max_s, "within": r.is_within} for r in self.rows]
        document: dict[str, Any] = {
            "machine": describe(cpu_name()),
            "load_average": {"least": min(self._loads), "most": max(self._loads)},
            "rows": rows,
        }
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n")
        return file
