"""The supervisor: a set of processes that all run until told otherwise.

Single-threaded: whoever made it calls ``turn`` now and then and ``stop`` in the end. The first start is in order, all
at once; a process that dies is started again after a wait, one that hangs is killed and counts as dead; one that keeps
dying ends the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipespec.cli.supervisor.child import Child
from pipespec.cli.supervisor.restarts import RestartPolicy, Restarts, describe_death
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.ops.errors import PipespecError

_STOP_POLL_S = 0.02


class KeepsDying(PipespecError):
    """A process died too often or cannot start; the message holds its last lines."""


@dataclass(slots=True)
class _Slot:
    """One process through all its runs: ``child`` is None while it waits for ``restart_at_s``.

    ``probe_at_s`` is when to look next whether it still lives.
    """

    spec: ProcessSpec
    restarts: Restarts
    child: Child | None = None
    restart_at_s: float = 0.0
    probe_at_s: float = 0.0


class Supervisor:
    """Runs a set of processes. Times are seconds of the monotonic clock.

    Args:
        specs: in the order of their start; the last one is stopped first.
        policy: when a process is started again.
        on_note: told what a person should know, such as the death of a process.
    """

    def __init__(
        self, specs: Sequence[ProcessSpec], *, policy: RestartPolicy, on_note: Callable[[str], None]
    ) -> None:
        self._slots = [_Slot(spec, Restarts(policy)) for spec in specs]
        self._policy = policy
        self._on_note = on_note

    def turn(self) -> None:
        """Start what is due, notice who died.

        Raises:
            KeepsDying: a process is given up.
            CannotStart: a command cannot be run.
        """
        for slot in self._slots:
            if slot.child is None and time.monotonic() >= slot.restart_at_s:
                slot.child = Child(slot.spec)
            elif slot.child is not None:
                self._look_after(slot, slot.child)

    def waits_for(self) -> list[str]:
        """Names of the processes that have not been ready since their start, as of the last ``turn``."""
        return [slot.spec.name for slot in self._slots if slot.child is None or not slot.child.was_ready]

    def stop(self, *, grace_s: float, is_forced: Callable[[], bool]) -> None:
        """End all: ask, wait ``grace_s`` altogether or until ``is_forced``, kill. Nothing is left afterwards.

        Role by role in reverse order: gateways end their sessions while the stages still listen, brokers go last.
        """
        until_s = time.monotonic() + grace_s
        try:
            for _, slots in groupby(reversed(self._slots), key=lambda slot: slot.spec.role):
                children = [slot.child for slot in slots if slot.child is not None]
                for child in children:
                    child.terminate()
                while any(child.exit_code() is None for child in children):
                    if time.monotonic() >= until_s or is_forced():
                        return
                    time.sleep(_STOP_POLL_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End all at once."""
        for slot in self._slots:
            if slot.child is not None:
                slot.child.kill()
                slot.child = None

    def _look_after(self, slot: _Slot, child: Child) -> None:
        if child.exit_code() is None:
            if not child.was_ready:
                child.was_ready = child.is_ready()
                slot.probe_at_s = time.monotonic() + self._policy.probe_every_s
            elif time.monotonic() >= slot.probe_at_s:
                child.probe_life()
                slot.probe_at_s = time.monotonic() + self._policy.probe_every_s
            hung = self._shows_that_it_hangs(child)
            if hung:
                child.kill()
                self._bury(slot, child, hung=hung)
        else:
            self._bury(slot, child)

    def _shows_that_it_hangs(self, child: Child) -> str:
        if child.num_missed >= self._policy.max_missed:
            return f"{child.spec.live_url} said no or nothing, {child.num_missed} times in a row"
        if not child.was_ready and time.monotonic() - child.started_s > self._policy.max_start_s:
            return f"{child.spec.ready_url} did not say yes within {self._policy.max_start_s:g} s"
        return ""

    def _bury(self, slot: _Slot, child: Child, *, hung: str = "") -> None:
        slot.child = None
        now = time.monotonic()
        exit_code = child.exit_code() or 0
        death = describe_death(slot.spec, exit_code, child.last_lines(), hung=hung)
        wait_s = slot.restarts.after_death(
            exit_code=exit_code, lived_s=now - child.started_s, was_ready=child.was_ready
        )
        if wait_s is None:
            raise KeepsDying(death)
        slot.restart_at_s = now + wait_s
        self._on_note(f"{death}\n  starting it again in {wait_s:g} s")
