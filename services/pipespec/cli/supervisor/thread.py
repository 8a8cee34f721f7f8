"""The supervisor in a thread of its own, for a command that does something else meanwhile.

The thread starts all children and outlives them: the kernel's parent-death signal watches the thread that started a
child, not only the process. It is never a daemon thread, so the interpreter does not end before the children have;
and it ends by itself when the thread that made it has, whatever interrupted that one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipespec.cli.supervisor.supervisor import Supervisor
from pipespec.ops.errors import PipespecError
from pipespec.ops.lifecycle import Shutdown

TURN_S = 0.1


class NotReady(PipespecError):
    """The processes run but do not become ready."""


class SupervisorThread:
    """Turns a supervisor until told to stop. Use ``supervised``."""

    def __init__(self, supervisor: Supervisor, *, grace_s: float) -> None:
        self._supervisor = supervisor
        self._grace_s = grace_s
        self._shutdown = Shutdown()
        self._forced = threading.Event()
        self._failure: Exception | None = None
        self._waits_for: list[str] | None = None
        self._maker = threading.current_thread()
        self._has_begun = False
        self._thread = threading.Thread(target=self._run, name="supervisor")
        # What `join` is for; but a `join` that Ctrl-C interrupts takes the thread for ended ever after (Python 3.11).
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the processes."""
        self._thread.start()

    def wait_until_ready(self, timeout_s: float, *, on_waiting: Callable[[list[str]], None]) -> None:
        """Return when every process has said that it is ready.

        Args:
            timeout_s: altogether.
            on_waiting: told, again and again, whom this waits for.

        Raises:
            NotReady: it took too long.
            KeepsDying: a process was given up.
        """
        until_s = time.monotonic() + timeout_s
        while self._waits_for != []:
            self.wait(TURN_S)
            waits_for = self._waits_for or []
            on_waiting(waits_for)
            if time.monotonic() > until_s:
                raise NotReady(f"not ready within {timeout_s:g} s: {', '.join(waits_for)}")

    def wait(self, timeout_s: float) -> None:
        """Wait; returns early only with an error.

        Raises:
            KeepsDying: a process was given up; all are stopped.
        """
        self._ended.wait(timeout_s)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the processes and the thread; a second Ctrl-C meanwhile does not wait for them."""
        self._shutdown.set("stopped")
        if not self._has_begun:  # and when it begins, it finds the shutdown set and starts nothing
            return
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self._forced.set()
            self._ended.wait()

    def _run(self) -> None:
        self._has_begun = True
        try:
            while self._maker.is_alive() and not self._shutdown.is_set():
                self._supervisor.turn()
                self._waits_for = self._supervisor.waits_for()
                self._shutdown.wait(TURN_S)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        try:
            self._supervisor.stop(grace_s=self._grace_s, is_forced=self._forced.is_set)
        finally:
            self._ended.set()


@contextmanager
def supervised(supervisor: Supervisor, *, grace_s: float) -> Iterator[SupervisorThread]:
    """Run the supervisor while the block runs; at its end, however it ends, no process is left."""
    thread = SupervisorThread(supervisor, grace_s=grace_s)
    try:
        thread.start()  # inside: Ctrl-C may come before it returns
        yield thread
    finally:
        thread.stop()
