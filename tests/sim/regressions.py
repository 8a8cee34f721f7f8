"""Cases that once failed, written out in full: the suite runs them all.

``make sim SIM_FLAGS='--mode core --seed 7 --keep "what was wrong"'`` adds one.
"""

from __future__ import annotations

import json
from pathlib import Path

from sim.plan import Case, dump_case, load_case

FILE = Path(__file__).with_name("regressions.jsonl")


def kept() -> list[tuple[str, Case]]:
    """What was wrong, and the case."""
    entries = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [(entry["why"], load_case(json.dumps(entry["case"]))) for entry in entries]


def keep(case: Case, why: str) -> None:
    """Add a case."""
    entry = {"why": why, "case": json.loads(dump_case(case))}
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
