"""One run of one process: from its start to its certain end.

It leads a process group of its own, so that a Ctrl-C in the terminal reaches only the supervisor, and so that nothing
which it started is left when the group is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException

from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.ops.errors import PipespecError

PROBE_TIMEOUT_S = 1.0
_TAIL_BYTES = 16_384

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Probes go to this machine, whatever proxy the environment names."""


class CannotStart(PipespecError):
    """The operating system refuses to start the process."""


class Child:
    """A started process.

    Attributes:
        started_s: of the monotonic clock.
        was_ready: at some time since its start.
        num_missed: probes of its life in a row without a yes.

    Raises:
        CannotStart: the command cannot be run.
    """

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.started_s = time.monotonic()
        self.was_ready = False
        self.num_missed = 0
        self._is_over = False
        try:
            with spec.log.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(  # noqa: S603 - the pipeline's own commands
                    spec.argv,
                    env=dict(spec.env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise CannotStart(f"cannot start {spec.name} ({spec.argv[0]}): {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Process id, and id of its group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        if not self._is_over and self._process.poll() is not None:
            self._end_group()
        return self._process.returncode

    def is_ready(self) -> bool:
        """Whether it says now that it can work. Blocks for ``PROBE_TIMEOUT_S`` at most."""
        return _says_yes(self.spec.ready_url)

    def probe_life(self) -> None:
        """Count in ``num_missed`` how often in a row it has not said that it lives. Blocks like ``is_ready``."""
        self.num_missed = 0 if _says_yes(self.spec.live_url) else self.num_missed + 1

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it started, and wait for it."""
        self._end_group()
        self._process.wait()

    def last_lines(self, count: int = 12) -> str:
        """The end of what this run wrote."""
        with self.spec.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-count:])

    def _end_group(self) -> None:
        self._signal_group(signal.SIGKILL)
        self._is_over = True

    def _signal_group(self, number: signal.Signals) -> None:
        if not self._is_over:  # afterwards the number may belong to somebody else
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
                os.killpg(self.pid, number)


def _says_yes(url: str) -> bool:
    try:
        with _direct.open(url, timeout=PROBE_TIMEOUT_S) as response:
            status: int = response.status
    except (OSError, HTTPException):
        return False
    return status == HTTPStatus.OK
