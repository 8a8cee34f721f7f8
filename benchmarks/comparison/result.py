"""What a comparison found, as it is written to JSON. The table and the picture are drawn from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from .equality import Fork
from .memory import MemoryRow
from .prompt import Kind

FORMAT = 1
"""Of the JSON file."""


class Status(StrEnum):
    """What became of a contender."""

    EQUAL = "equal"
    """Every output was the reference's, token for token."""
    DIFFERS = "differs"
    """Some output was not; ``forks`` says where."""
    FAILED = "failed"
    """It could not be run; ``reason`` is its error."""
    SKIPPED = "skipped"
    """It was not run; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender, one kind of prompt, one number of sessions: the run of median speed.

    Attributes:
        sessions: at once.
        tokens: generated, by all sessions.
        elapsed_s: from their arrival to the last token.
        tokens_per_s: the one by the other.
        first_token_s: median over the sessions, from their arrival.
        peak_rss_mib: of the contender's processes, loading included.
        num_different: sessions whose output was not the reference's, in this run.
        notes: what the contender counted.
    """

    kind: Kind
    sessions: int
    tokens: int
    elapsed_s: float
    tokens_per_s: float
    first_token_s: float
    peak_rss_mib: float
    num_different: int
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """One contender's results. ``num_compared`` counts outputs, those of the check included."""

    name: str
    title: str
    serving: str
    is_ours: bool
    status: Status = Status.EQUAL
    reason: str = ""
    num_compared: int = 0
    forks: list[Fork] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)

    def cell(self, kind: Kind, sessions: int) -> Cell | None:
        """The cell for these, if it was measured."""
        return next((one for one in self.cells if (one.kind, one.sessions) == (kind, sessions)), None)


@dataclass(slots=True)
class Result:
    """A whole comparison.

    Attributes:
        machine: device, processor, memory, versions, commit; see ``machine.describe``.
        settings: what was asked for.
        prompts: tokens of each prompt, by kind and name.
        entries: one per contender, in order.
        memory: None where it was not measured; ``memory_reason`` then says why.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    prompts: dict[Kind, dict[str, int]]
    entries: list[Entry]
    memory: MemoryRow | None = None
    memory_reason: str = ""

    def write(self, file: Path) -> None:
        """Write it as JSON, in one step: a reader never sees half of it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".partial")
        scratch.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")
        scratch.replace(file)
