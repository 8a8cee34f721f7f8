"""Hands a prepared pipeline to a supervisor process of its own, which outlives the command."""

from __future__ import annotations

import subprocess
import sys
import time

from pipespec.cli.local.run_folder import RunFolder
from pipespec.ops.errors import PipespecError

SUPERVISOR = "supervisor"
_POLL_S = 0.05
_GRACE_S = 20.0


class SupervisorEnded(PipespecError):
    """The detached supervisor ended before the pipeline was ready; the message holds its last lines."""


def start_detached(folder: RunFolder, *, lock: int, timeout_s: float) -> None:
    """Start a supervisor for what ``folder`` holds; return when the pipeline is ready.

    Args:
        folder: written to, not ready.
        lock: file descriptor that holds its lock; the supervisor inherits it.
        timeout_s: until all must be ready.

    Raises:
        SupervisorEnded: it did not become ready.
    """
    command = [sys.executable, "-m", "pipespec.cli", "supervise", str(folder.path)]
    command += ["--lock", str(lock), "--timeout", str(timeout_s)]
    with (folder.logs / f"{SUPERVISOR}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            start_new_session=True,
        )
    try:
        _wait_until_ready(folder, process)
    except BaseException:
        _end(process)
        raise


def _wait_until_ready(folder: RunFolder, process: subprocess.Popen[bytes]) -> None:
    while True:
        state = folder.state()
        if state is not None and state.ready:
            return
        if process.poll() is not None:
            raise SupervisorEnded(f"the pipeline did not start:\n{folder.last_log_lines(SUPERVISOR)}")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the supervisor and, through it, its children; a killed one takes them along (Linux)."""
    process.terminate()
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
