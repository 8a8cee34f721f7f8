"""The replicas of the stages in the cluster: as they are and as they should be, on a thread of its own.

The only one that writes. A call may take long; meanwhile telemetry goes on, and the newest wish counts. Whether this
process may write is asked just before every call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from pipespec.kube.failure import ApiFailure
from pipespec.kube.scale import Scales
from pipespec.protocol.ids import Rank

_NO_WISH: Mapping[Rank, int] = {}

log = structlog.get_logger(__name__)


class StageScales:
    """The StatefulSets of all stages. Reads and writes for as long as its ``with`` block lasts.

    Args:
        scales: of the namespace; used by the thread alone.
        workloads: StatefulSet of each stage, by rank.
        may_write: whether this process leads.
        every_s: between two looks at how things are.

    Attributes:
        replicas: that every stage should have as the cluster knows it, where it has said so.
    """

    def __init__(
        self,
        scales: Scales,
        workloads: Sequence[str],
        *,
        may_write: Callable[[], bool],
        every_s: float,
    ) -> None:
        self.replicas: Mapping[Rank, int] = {}
        self._scales = scales
        self._workloads = {Rank(rank): name for rank, name in enumerate(workloads)}
        self._may_write = may_write
        self._every_s = every_s
        self._wish = _NO_WISH
        self._news = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stage-scales", daemon=True)

    def request(self, wish: Mapping[Rank, int]) -> None:
        """Have these replicas from now on; a wish of nothing changes nothing any more."""
        if wish != self._wish:
            self._wish = dict(wish)
            self._news.set()

    @property
    def failures(self) -> Mapping[str, int]:
        """Calls that failed, by code."""
        return dict(self._scales.failures)

    @property
    def is_running(self) -> bool:
        """Whether the thread goes on; one that has stopped by itself is a bug."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End. When this returns no call is under way, or it is one that takes longer than calls may."""
        self._stop.set()
        self._news.set()
        self._thread.join(timeout=10)

    # On the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.clear()
            for rank in self._workloads:
                try:
                    self._settle(rank)
                except ApiFailure as failure:
                    log.warning(
                        "scale.failed", stage=rank, problem=str(failure), advice="tried again next time"
                    )
            self._news.wait(self._every_s)

    def _settle(self, rank: Rank) -> None:
        name, wish = self._workloads[rank], self._wish
        if self._stop.is_set():
            return
        present = self._scales.read(name).replicas
        self.replicas = {**self.replicas, rank: present}
        wanted = wish.get(rank, present)
        if wanted == present:
            return

        def may() -> bool:
            return self._may_write() and self._wish is wish and not self._stop.is_set()

        if self._scales.set(name, wanted, may=may):
            log.info("scale.set", stage=rank, name=name, replicas=wanted, before=present)
            self.replicas = {**self.replicas, rank: wanted}
