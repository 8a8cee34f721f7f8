"""Secrets are in files of their own, for those who run the process alone: the one rule for keys of all kinds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipespec.ops.errors import SettingsError


def refuse_readable_by_others(file: Path) -> None:
    """Group members may read it where the group is the volume's (Kubernetes' fsGroup): then it is not ours to change.

    Raises:
        SettingsError: others can read or change it; says what to do.
        OSError: it is not there, or cannot be looked at.
    """
    status = file.stat()
    refused = stat.S_IRWXO | stat.S_IWGRP
    if status.st_uid == os.geteuid() != 0:
        refused |= stat.S_IRGRP
    if status.st_mode & refused:
        raise SettingsError(
            f"the secret key {file} has mode {stat.S_IMODE(status.st_mode):04o}, so others can read it; "
            f"run: chmod 600 {file} (in a Kubernetes volume: defaultMode 0400)"
        )
