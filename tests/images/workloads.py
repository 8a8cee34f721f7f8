"""Workloads of a rendered release: what its controllers make pods of, and the names that its Services give them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from chart.release import Manifest, Release

COMPONENT = "app.kubernetes.io/component"
POD_INDEX = "apps.kubernetes.io/pod-index"
TEST_HOOK = "helm.sh/hook"


@dataclass(frozen=True, slots=True)
class Workload:
    """A StatefulSet or a Deployment.

    Attributes:
        is_stateful: whether its pods have names of their own that outlive them.
    """

    name: str
    replicas: int
    template: Manifest
    is_stateful: bool

    @property
    def pods(self) -> tuple[str, ...]:
        """Names of the pods that it starts with."""
        return tuple(self.pod_name(ordinal) for ordinal in range(self.replicas))

    def pod_name(self, ordinal: int) -> str:
        """As a StatefulSet gives it. A Deployment's pods have random names in a cluster; here they are numbered too."""
        return f"{self.name}-{ordinal}"

    def pod(self, ordinal: int) -> Manifest:
        """Manifest of one pod."""
        template = copy.deepcopy(self.template)
        metadata = {**template["metadata"], "name": self.pod_name(ordinal)}
        if self.is_stateful:
            metadata["labels"] |= {POD_INDEX: str(ordinal)}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def workloads_of(release: Release) -> dict[str, Workload]:
    """All of them by component, in alphabetical order; a cluster keeps none either."""
    found = {
        one["metadata"]["labels"][COMPONENT]: Workload(
            name=name,
            replicas=one["spec"]["replicas"],
            template=one["spec"]["template"],
            is_stateful=kind == "StatefulSet",
        )
        for kind in ("StatefulSet", "Deployment")
        for name, one in release.of(kind).items()
    }
    return dict(sorted(found.items()))


def helm_tests_of(release: Release) -> list[Manifest]:
    """Hooks of ``helm test``."""
    pods = release.of("Pod").values()
    return [pod for pod in pods if pod["metadata"]["annotations"].get(TEST_HOOK) == "test"]


def hosts_of(release: Release, addresses: Mapping[str, str]) -> dict[str, str]:
    """What a cluster's DNS would answer: an address by name.

    Args:
        release: its Services.
        addresses: of the pods that it starts with, by name.
    """
    hosts: dict[str, str] = {}
    for name, service in release.of("Service").items():
        domain = f"{name}.{service['metadata']['namespace']}.svc.cluster.local"
        for workload in workloads_of(release).values():
            if not service["spec"]["selector"].items() <= workload.template["metadata"]["labels"].items():
                continue
            for pod in workload.pods:
                if workload.is_stateful:
                    hosts[f"{pod}.{domain}"] = addresses[pod]
                hosts.setdefault(name, addresses[pod])
                hosts.setdefault(domain, addresses[pod])
    return hosts
