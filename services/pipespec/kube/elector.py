"""Keeps a candidate trying, on a thread of its own, and gives the lease back at the end.

Nothing is called back: whoever does what only a leader may asks ``is_leading`` just before, which is true for a span of time
that no failure of this thread can make longer.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from types import TracebackType
from typing import Self

import structlog

from pipespec.kube.failure import CONFLICT, ApiFailure
from pipespec.kube.lease import Candidate, LeaseStore, LeaseTimes

_JITTER = 0.2

log = structlog.get_logger(__name__)


class Elector:
    """Takes part in the election for as long as its ``with`` block lasts.

    Args:
        store: of the lease.
        name: of this process; a random suffix tells it from a former one of that name.
        times: how long what holds.

    Attributes:
        failures: tries that failed, by code.
    """

    def __init__(self, store: LeaseStore, *, name: str, times: LeaseTimes | None = None) -> None:
        self.failures: Counter[str] = Counter()
        self._times = times or LeaseTimes()
        self._candidate = Candidate(
            store, identity=f"{name}_{uuid.uuid4()}", times=self._times, clock=time.monotonic
        )
        self._led = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)

    @property
    def is_leading(self) -> bool:
        """Whether this process leads now. Any thread may ask."""
        return self._candidate.is_leading

    @property
    def is_running(self) -> bool:
        """Whether it goes on trying; one that has stopped by itself is a bug, and leads no more."""
        return self._thread.is_alive()

    @property
    def leader(self) -> str:
        """Who led when last seen; empty where nobody did."""
        return self._candidate.leader.rpartition("_")[0]

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; others may take over at once. Whatever only a leader may do has to be over."""
        self._stop.set()
        self._thread.join(timeout=self._times.renew_deadline_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._candidate.turn()
            except ApiFailure as failure:
                self.failures[failure.code] += 1
                is_routine = failure.code == CONFLICT  # another one was faster
                (log.info if is_routine else log.warning)(
                    "lease.failed", problem=str(failure), leading=self.is_leading
                )
            self._tell()
            self._stop.wait(self._times.retry_s * random.uniform(1, 1 + _JITTER))  # noqa: S311 - spreads load
        self._release()

    def _release(self) -> None:
        if not self.is_leading:
            return
        try:
            self._candidate.release()
        except ApiFailure as failure:
            log.warning("lease.not_released", problem=str(failure), holds_for_s=self._times.duration_s)
        else:
            log.info("lease.released")

    def _tell(self) -> None:
        if self.is_leading != self._led:
            self._led = not self._led
            log.info("lease.acquired" if self._led else "lease.lost", leader=self.leader)
