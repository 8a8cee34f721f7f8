"""What the supervisor is asked to run: one process, said completely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process.

    Attributes:
        name: unique in its pipeline, such as ``stage-1-r0``; names the log file.
        role: broker, stage or gateway; neighbours of one role are stopped together.
        argv: command and arguments.
        env: the whole environment.
        log: file that stdout and stderr are appended to.
        ready_url: answers 200 when the process can work.
        live_url: answers 200 as long as it does not hang.
    """

    name: str
    role: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    ready_url: str
    live_url: str
