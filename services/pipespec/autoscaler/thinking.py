"""Decides on a thread of its own: a decision may simulate for seconds, and heartbeats have to be heard as they come."""

from __future__ import annotations

import queue
import threading
from typing import Protocol

from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.load import FleetLoad


class Decider(Protocol):
    """Keeps its own history; called by one thread at a time, in the order of the loads."""

    def decide(self, load: FleetLoad) -> Decision:
        """What every stage should have."""


class Thinking:
    """One decision at a time."""

    def __init__(self, decider: Decider) -> None:
        self.is_busy = False
        self._decider = decider
        self._done: queue.SimpleQueue[tuple[FleetLoad, Decision | Exception]] = queue.SimpleQueue()

    def begin(self, load: FleetLoad) -> None:
        """Decide about this load; not while it is busy."""
        self.is_busy = True
        threading.Thread(target=self._think, args=(load,), name="thinking", daemon=True).start()

    def outcome(self) -> tuple[FleetLoad, Decision] | None:
        """The load and what was decided about it, once; None where nothing is decided yet.

        Raises what the decider raised.
        """
        try:
            load, decision = self._done.get_nowait()
        except queue.Empty:
            return None
        self.is_busy = False
        if isinstance(decision, Exception):
            raise decision
        return load, decision

    def _think(self, load: FleetLoad) -> None:
        try:
            self._done.put((load, self._decider.decide(load)))
        except Exception as error:  # noqa: BLE001 - raised again on the thread that asked
            self._done.put((load, error))
