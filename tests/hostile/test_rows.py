"""docs/security.md names a test for every row of bad inputs, and the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_every_row_is_there_once() -> None:
    rows: list[int] = []
    for cell in re.findall(r"^\| (B[0-9B–, ]+) \|", TEXT, flags=re.MULTILINE):
        for part in cell.split(", "):
            first, _, last = part.replace("B", "").partition("–")
            rows += range(int(first), int(last or first) + 1)
    assert sorted(rows) == list(range(1, 33))


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 40
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), flags=re.MULTILINE)
    ]
    assert missing == []
