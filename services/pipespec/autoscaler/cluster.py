"""What an autoscaler has of its cluster: the scales of the stages, and a part in the election."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from pipespec.autoscaler.stage_scales import StageScales
from pipespec.kube.connection import connect
from pipespec.kube.elector import Elector
from pipespec.kube.lease_store import KubernetesLease
from pipespec.kube.scale import Scales
from pipespec.ops.cluster import KubernetesSettings
from pipespec.protocol.ids import Rank


class KubernetesCluster:
    """The loop's ``Cluster``. Reads all stages, writes while it leads; one that only looks on does not stand for election."""

    def __init__(self, scales: StageScales, elector: Elector | None) -> None:
        self._scales = scales
        self._elector = elector

    @property
    def replicas(self) -> Mapping[Rank, int]:
        """That every stage should have, where the cluster has said so."""
        return self._scales.replicas

    def request(self, wish: Mapping[Rank, int]) -> None:
        """Have these replicas from now on, while this process leads."""
        self._scales.request(wish)

    @property
    def is_leading(self) -> bool:
        """Whether this process may write."""
        return self._elector is not None and self._elector.is_leading

    @property
    def is_running(self) -> bool:
        """Whether its threads go on."""
        return self._scales.is_running and (self._elector is None or self._elector.is_running)

    @property
    def failures(self) -> Mapping[str, Mapping[str, int]]:
        """Calls that failed, by what they were for, and code."""
        lease = {} if self._elector is None else dict(self._elector.failures)
        return {"scale": self._scales.failures, "lease": lease}


@contextmanager
def joined(
    settings: KubernetesSettings,
    *,
    name: str,
    every_s: float,
    sleep: Callable[[float], object],
    only_looks: bool,
) -> Iterator[KubernetesCluster]:
    """Be part of the cluster for as long as the block lasts.

    At the end the writing stops first, and then the lease is given back.

    Args:
        settings: where the stages are.
        name: of this process.
        every_s: between two looks at the scales.
        sleep: waits for so many seconds, or less when the process should end.
        only_looks: whether to write nothing, ever.

    Raises:
        SettingsError: there is no cluster to talk to.
    """
    with ExitStack() as stack:
        api = stack.enter_context(connect())
        elector = None
        if not only_looks:
            store = KubernetesLease(api, settings.namespace, settings.lease)
            elector = stack.enter_context(Elector(store, name=name))
        scales = StageScales(
            Scales(api, settings.namespace, sleep=sleep),
            settings.workloads,
            may_write=lambda: elector is not None and elector.is_leading,
            every_s=every_s,
        )
        yield KubernetesCluster(stack.enter_context(scales), elector)
