"""When a process was born: with its pid, what tells it from every other process of this machine.

A pid in a file may belong to somebody else by the time it is read; the pair of pid and birth does not.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_PROC = Path("/proc")
_START_FIELD = 22 - 3
"""Of ``/proc/<pid>/stat``, see proc(5), counted after the command: that may hold spaces and parentheses."""


def birth(pid: int) -> str | None:
    """A text that stays the same for the life of the process ``pid``; None when there is no such process."""
    if (_PROC / "self" / "stat").exists():
        try:
            stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state == "Z" else fields[_START_FIELD - 1]  # a zombie has ended
    answer = subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
