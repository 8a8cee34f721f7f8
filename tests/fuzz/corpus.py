"""Inputs worth keeping: one file per target, one input per line in base64, so that they are small and can be reviewed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
MAX_INPUT = 1024
"""Bytes of an input that is kept."""


def read(target: str) -> list[bytes]:
    """All inputs of a target."""
    lines = (FOLDER / f"{target}.txt").read_text().split()
    return [base64.b64decode(line) for line in lines]


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these instead, without doubles, the short ones first."""
    kept = sorted({one for one in inputs if len(one) <= MAX_INPUT}, key=lambda one: (len(one), one))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.txt").write_text("".join(f"{base64.b64encode(one).decode()}\n" for one in kept))


def unpack(target: str, folder: Path) -> None:
    """One file per input, as libFuzzer wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in read(target):
        (folder / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
