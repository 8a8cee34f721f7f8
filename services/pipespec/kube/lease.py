"""The rules by which one of several processes leads, after those of client-go's leader election. No I/O, no clock of its own.

Whoever leads renews a lease; whoever wants to lead takes it when it has not *changed* for as long as it is held for, on the
watcher's own monotonic clock: the times that are written in it are for people, so clocks need not agree.

Leading is a span of time, not a state: it ends ``renew_deadline_s`` after the beginning of the last renewal that succeeded,
whatever any thread is stuck in. Others have to wait ``duration_s`` from when they saw that renewal, which is later. What
lies between the two is for calls that are under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pipespec.ops.errors import SettingsError


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """client-go's defaults.

    Attributes:
        duration_s: whole seconds that a lease holds without a renewal.
        renew_deadline_s: without a renewal for so long, the leader no longer leads.
        retry_s: between two tries; up to a fifth is added by chance.
    """

    duration_s: int = 15
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        """Check that a leader gives up before another takes over, and has more than one try.

        Raises:
            SettingsError: it is not so.
        """
        if not self.duration_s > self.renew_deadline_s > 1.2 * self.retry_s > 0:
            raise SettingsError(
                "a lease needs duration_s > renew_deadline_s > 1.2 x retry_s > 0; "
                f"got {self.duration_s}, {self.renew_deadline_s} and {self.retry_s}"
            )


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a lease says.

    Attributes:
        holder: identity of whoever leads; empty where it was given back.
        duration_s: it holds for so long after a renewal.
        acquired_at: for people.
        renewed_at: for people; that it changes is what counts.
        transitions: times that another one took over.
        version: changes with each write.
    """

    holder: str
    duration_s: int
    acquired_at: datetime
    renewed_at: datetime
    transitions: int = 0
    version: str = ""


class LeaseStore(Protocol):
    """Where the lease is. All raise ``ApiFailure``; nothing is written over a version that is not the present one."""

    def read(self) -> LeaseRecord | None:
        """The lease as it is; None where there is none."""

    def create(self, record: LeaseRecord) -> LeaseRecord:
        """Write the first one; it comes back with its version."""

    def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Write over ``record.version``; it comes back with the new version."""


class Candidate:
    """One process that would lead.

    Args:
        store: of the lease.
        identity: of this process, unlike all others, its own predecessor of the same name too.
        times: how long what holds.
        clock: monotonic seconds.
        now: the time of day in UTC, for people.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        identity: str,
        times: LeaseTimes,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),  # noqa: TID251 - for people, as said above
    ) -> None:
        self.identity = identity
        self._store = store
        self._times = times
        self._clock = clock
        self._now = now
        self._observed: LeaseRecord | None = None
        self._observed_s = 0.0
        self._leads_until_s = -math.inf

    @property
    def is_leading(self) -> bool:
        """Whether this process leads now. Any thread may ask."""
        return self._clock() < self._leads_until_s

    @property
    def leader(self) -> str:
        """Identity of the last holder that was seen; empty where there was none."""
        return self._observed.holder if self._observed else ""

    def turn(self) -> None:
        """Renew the lease, or take it if it is free.

        Raises:
            ApiFailure: the store does not answer, or another process was faster.
        """
        began_s = self._clock()
        present = self._store.read()
        if present is None:
            self._observe(self._store.create(self._renewed(None)))
        else:
            self._observe(present)
            if present.holder != self.identity:
                self._leads_until_s = -math.inf
                if not self._is_free(present):
                    return
            self._observe(self._store.replace(self._renewed(present)))
        self._leads_until_s = began_s + self._times.renew_deadline_s

    def release(self) -> None:
        """Lead no longer, and let others take over at once. Do nothing as the leader any more before this is called.

        Raises:
            ApiFailure: the store does not take it; the others wait until the lease has run out.
        """
        led = self.is_leading
        self._leads_until_s = -math.inf
        if led and self._observed is not None:
            self._store.replace(replace(self._observed, holder="", duration_s=1, renewed_at=self._now()))

    def _observe(self, record: LeaseRecord) -> None:
        if record != self._observed:
            self._observed, self._observed_s = record, self._clock()

    def _is_free(self, record: LeaseRecord) -> bool:
        return not record.holder or self._clock() >= self._observed_s + record.duration_s

    def _renewed(self, present: LeaseRecord | None) -> LeaseRecord:
        now = self._now()
        mine = LeaseRecord(self.identity, self._times.duration_s, acquired_at=now, renewed_at=now)
        if present is None:
            return mine
        if present.holder == self.identity:
            return replace(present, duration_s=self._times.duration_s, renewed_at=now)
        return replace(mine, transitions=present.transitions + 1, version=present.version)
