"""Reads and sets how many replicas a StatefulSet has, through its ``scale`` subresource.

A patch names the version of the scale that was read just before: of two writers one gets a conflict, and a patch that was
under way for too long changes nothing any more. After whatever went wrong the scale is read again first, so that a patch
that did arrive is not repeated. One patch at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from kubernetes.client import ApiClient, AppsV1Api, V1Scale

from pipespec.kube.backoff import Backoff
from pipespec.kube.failure import ApiFailure, Patience, calling

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scale:
    """Of a StatefulSet.

    Attributes:
        replicas: that it should have.
        running: pods that it has, whatever they are doing.
        version: of this knowledge; a patch with an older one is refused.
    """

    replicas: int
    running: int
    version: str


@dataclass(frozen=True, slots=True)
class ScaleTimes:
    """How long setting a scale may take.

    Attributes:
        patience: of each call.
        budget_s: all tries together; then the next round has to do it.
        first_wait_s: after a failure; doubles.
        longest_wait_s: the doubling ends here.
    """

    patience: Patience = field(default_factory=Patience)
    budget_s: float = 10.0
    first_wait_s: float = 0.2
    longest_wait_s: float = 3.0


class Scales:
    """The scales of one namespace. For one thread.

    Args:
        api: the connection.
        namespace: of the StatefulSets.
        times: how patient to be.
        sleep: waits for so many seconds, or less when the process should end.

    Attributes:
        failures: calls that failed, by code.
    """

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        *,
        times: ScaleTimes | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.failures: Counter[str] = Counter()
        self._api = AppsV1Api(api)
        self._namespace = namespace
        self._times = times or ScaleTimes()
        self._sleep = sleep

    def read(self, name: str) -> Scale:
        """The scale of the StatefulSet ``name``.

        Raises:
            ApiFailure: the server does not say it.
        """
        with self._counted(), calling(f"show the scale of the StatefulSet {name!r}"):
            return _read(
                self._api.read_namespaced_stateful_set_scale(
                    name, self._namespace, _request_timeout=self._times.patience.timeout
                )
            )

    def set(self, name: str, replicas: int, *, may: Callable[[], bool] = lambda: True) -> bool:
        """Make it so many replicas; conflicts, refusals for now and silence are tried again for ``budget_s``.

        Args:
            name: of the StatefulSet.
            replicas: wanted.
            may: asked before each call; False ends it.

        Returns:
            Whether it has been patched: not where it was so already, or ``may`` said no in time.

        Raises:
            ApiFailure: the last one, when the time is up or another try would not help.
        """
        backoff = Backoff(first_s=self._times.first_wait_s, longest_s=self._times.longest_wait_s)
        until_s = time.monotonic() + self._times.budget_s
        is_sent = False
        while may():
            try:
                scale = self.read(name)
                if scale.replicas == replicas or not may():
                    break
                is_sent = True
                self._patch(name, replicas, scale.version)
            except ApiFailure as failure:
                wait_s = backoff.on_failure(retry_after_s=failure.retry_after_s)
                if not failure.retriable or time.monotonic() + wait_s > until_s:
                    raise
                log.info("scale.retried", name=name, problem=str(failure), again_in_s=round(wait_s, 2))
                self._sleep(wait_s)
            else:
                break
        return is_sent

    def _patch(self, name: str, replicas: int, version: str) -> None:
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        with self._counted(), calling(f"scale the StatefulSet {name!r} to {replicas}"):
            self._api.patch_namespaced_stateful_set_scale(
                name, self._namespace, body, _request_timeout=self._times.patience.timeout
            )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except ApiFailure as failure:
            self.failures[failure.code] += 1
            raise


def _read(answer: V1Scale) -> Scale:
    return Scale(
        replicas=(answer.spec.replicas if answer.spec else None) or 0,  # the API leaves a zero out
        running=answer.status.replicas if answer.status else 0,
        version=(answer.metadata.resource_version if answer.metadata else None) or "",
    )
