"""Watches the EndpointSlices of the stages' headless Services, on a thread of its own, for as long as a process lives.

List, then watch from there; a watch that ends is taken up where it stopped. After a failure of any kind (an expired version
is one, 410) it begins with a list again, after a wait that doubles. What was learned stays, with its age; after ``trust_s``
without word from the API server nothing is said of any pod: the one that has its name may be another by now, and its own
heartbeats tell more than old knowledge.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog
from kubernetes.client import ApiClient, DiscoveryV1Api
from kubernetes.watch import Watch

from pipespec.kube.backoff import Backoff
from pipespec.kube.endings import SERVICE_LABEL, Endings
from pipespec.kube.failure import GONE, ApiFailure, Patience, calling
from pipespec.ops.cluster import KubernetesSettings
from pipespec.protocol.ids import Member

_NOTHING: frozenset[Member] = frozenset()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """How a watch waits.

    Attributes:
        watch_s: the server ends a watch after so long; the next goes on where it stopped.
        shortest_s: between the beginnings of two watches, should the server end them at once.
        patience: for a list; the connection of a watch is silent for ``watch_s`` longer at most.
        first_wait_s: after a failure; doubles.
        longest_wait_s: the doubling ends here.
        trust_s: knowledge that is older says nothing; a quiet watch is heard of every ``watch_s`` only.
    """

    watch_s: int = 30
    shortest_s: float = 1.0
    patience: Patience = field(default_factory=lambda: Patience(connect_s=3.0, read_s=10.0))
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    trust_s: float = 120.0


class EndpointWatch:
    """The pods of the stages that are ending. Watches for as long as its ``with`` block lasts.

    Attributes:
        failures: calls that failed, by code.
    """

    def __init__(
        self, api: ApiClient, settings: KubernetesSettings, *, times: WatchTimes | None = None
    ) -> None:
        self.failures: Counter[str] = Counter()
        self._list = DiscoveryV1Api(api).list_namespaced_endpoint_slice
        self._settings = settings
        self._times = times or WatchTimes()
        self._endings = Endings(settings.workloads)
        self._known = _NOTHING
        self._heard_s: float | None = None
        self._version: str | None = None
        self._watch = Watch()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint-watch", daemon=True)

    @property
    def age_s(self) -> float | None:
        """Seconds since the API server was last heard of; None: never. Quiet watches are heard of when they end."""
        return None if self._heard_s is None else time.monotonic() - self._heard_s

    @property
    def endings(self) -> frozenset[Member]:
        """Replicas whose pods are ending; none where nothing is known that may be trusted. Any thread may ask."""
        age_s = self.age_s
        return self._known if age_s is not None and age_s <= self._times.trust_s else _NOTHING

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, without waiting for the server."""
        self._stop.set()
        until_s = time.monotonic() + self._times.patience.connect_s
        while self._thread.is_alive() and time.monotonic() < until_s:
            self._watch.stop()  # again and again: it may be about to begin
            self._thread.join(0.05)

    # On the watch's thread

    def _run(self) -> None:
        backoff = Backoff(first_s=self._times.first_wait_s, longest_s=self._times.longest_wait_s)
        while not self._stop.is_set():
            try:
                if self._version is None:
                    self._version = self._relist()
                self._follow(self._version)
                backoff.on_success()
            except ApiFailure as failure:
                self._version = None
                if not self._stop.is_set():
                    self._wait_after(failure, backoff.on_failure(retry_after_s=failure.retry_after_s))

    def _wait_after(self, failure: ApiFailure, wait_s: float) -> None:
        self.failures[failure.code] += 1
        is_routine = failure.code == GONE
        (log.info if is_routine else log.warning)(
            "endpoints.watch_failed", problem=str(failure), age_s=self.age_s, again_in_s=round(wait_s, 2)
        )
        self._stop.wait(wait_s)

    def _relist(self) -> str | None:
        """Learn everything anew; the version to watch from."""
        with calling("list the stages' EndpointSlices"):
            answer = self._list(
                self._settings.namespace,
                label_selector=self._selector,
                _request_timeout=self._times.patience.timeout,
            )
        self._endings.on_list(answer.items)
        self._on_heard()
        return answer.metadata.resource_version if answer.metadata else None

    def _follow(self, version: str | None) -> None:
        """Learn what changes, until the server ends the watch; the next one goes on from there."""
        patience, began_s = self._times.patience, time.monotonic()
        with calling("let the stages' EndpointSlices be watched"):
            for event in self._watch.stream(
                self._list,
                self._settings.namespace,
                label_selector=self._selector,
                resource_version=version,
                allow_watch_bookmarks=True,
                timeout_seconds=self._times.watch_s,
                _request_timeout=(patience.connect_s, self._times.watch_s + patience.read_s),
            ):
                self._on_event(event)
        self._version = self._watch.resource_version
        self._on_heard()
        self._stop.wait(self._times.shortest_s - (time.monotonic() - began_s))

    def _on_event(self, event: object) -> None:
        match event:
            case {"type": "ADDED" | "MODIFIED", "object": one}:
                self._endings.on_change(one)
            case {"type": "DELETED", "object": one}:
                self._endings.on_delete(one)
            case _:  # a bookmark, which the library has read, or a line that is no event
                pass
        self._on_heard()

    def _on_heard(self) -> None:
        known = self._endings.members()
        if known != self._known:
            log.info("endpoints.ending", pods=sorted(pod for _, pod in known))
        self._known = known
        self._heard_s = time.monotonic()

    @property
    def _selector(self) -> str:
        return f"{SERVICE_LABEL} in ({','.join(self._settings.workloads)})"
