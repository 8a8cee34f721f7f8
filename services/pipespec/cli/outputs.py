"""Checks that a file can be written before minutes are spent on what is to be in it."""

from __future__ import annotations

import os
from pathlib import Path

from pipespec.ops.errors import SettingsError


def check_can_write(option: str, file: Path | None) -> None:
    """Look at the folder and at what is there already; None is fine.

    Raises:
        SettingsError: the file cannot be written.
    """
    if file is None:
        return
    if not file.parent.is_dir():
        raise SettingsError(f"{option} {file}: there is no folder {file.parent}; make it, or choose another")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise SettingsError(f"{option} {file}: not allowed to write there; choose another place")
