"""Which pods of the stages are ending, as EndpointSlices tell it. Keeps state, does no I/O.

An endpoint that is ``terminating`` belongs to a pod that will be gone; a pod that was there and is in no slice any more is
gone. Both are *ending*: nothing new may be sent to them. StatefulSets use names again: any endpoint of that name that is
not terminating makes it a living pod. Of a workload that has no slice at all (its Service is deleted) nothing is known,
and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubernetes.client import V1EndpointSlice

from pipespec.protocol.ids import Member, Rank

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class _Slice:
    workload: str
    alive: frozenset[str]
    terminating: frozenset[str]


class Endings:
    """Pods of all stages.

    Args:
        workloads: headless Service of every stage, by rank.
    """

    def __init__(self, workloads: Sequence[str]) -> None:
        self._workloads = tuple(workloads)
        self._slices: dict[str, _Slice] = {}
        self._seen: dict[str, set[str]] = {workload: set() for workload in workloads}

    def on_list(self, slices: Iterable[V1EndpointSlice]) -> None:
        """These are all that there are."""
        self._slices.clear()
        for one in slices:
            self.on_change(one)

    def on_change(self, one: V1EndpointSlice) -> None:
        """A slice is new or different."""
        name, workload = _name(one), _workload(one)
        if workload not in self._seen:  # another's; servers may ignore the selector
            self._slices.pop(name, None)
            return
        self._slices[name] = read = _read(workload, one)
        self._seen[workload] |= read.alive | read.terminating

    def on_delete(self, one: V1EndpointSlice) -> None:
        """A slice is gone; its pods may be in another one."""
        self._slices.pop(_name(one), None)

    def members(self) -> frozenset[Member]:
        """The replicas that are ending; a replica has the name of its pod."""
        return frozenset(
            (Rank(rank), pod)
            for rank, workload in enumerate(self._workloads)
            for pod in self._ending(workload)
        )

    def _ending(self, workload: str) -> frozenset[str]:
        slices = [one for one in self._slices.values() if one.workload == workload]
        if not slices:
            return frozenset()
        return frozenset(self._seen[workload]).difference(*(one.alive for one in slices))


def _name(one: V1EndpointSlice) -> str:
    return (one.metadata.name if one.metadata else None) or ""


def _workload(one: V1EndpointSlice) -> str:
    labels = (one.metadata.labels if one.metadata else None) or {}
    return labels.get(SERVICE_LABEL, "")


def _read(workload: str, one: V1EndpointSlice) -> _Slice:
    pods: dict[bool, set[str]] = {True: set(), False: set()}
    for endpoint in one.endpoints or ():
        if endpoint.target_ref is not None and endpoint.target_ref.name:
            is_terminating = bool(endpoint.conditions and endpoint.conditions.terminating)
            pods[is_terminating].add(endpoint.target_ref.name)
    return _Slice(workload, alive=frozenset(pods[False]), terminating=frozenset(pods[True]))
