"""The lease as an object of the Kubernetes API (``coordination.k8s.io/v1``)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiClient, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta

from pipespec.kube.failure import NOT_FOUND, ApiFailure, Patience, calling
from pipespec.kube.lease import LeaseRecord

_NEVER = datetime.fromtimestamp(0, UTC)


class KubernetesLease:
    """One Lease, read and written. A ``LeaseStore``.

    It is patched with its version as a precondition, not replaced: what others put into it, such as labels, stays.

    Args:
        api: the connection.
        namespace: of the Lease.
        name: of the Lease.
        patience: of each call; a renewal is two calls and has to fit into the renew deadline.
    """

    def __init__(
        self, api: ApiClient, namespace: str, name: str, *, patience: Patience | None = None
    ) -> None:
        self._api = CoordinationV1Api(api)
        self._namespace = namespace
        self._name = name
        self._timeout = (patience or Patience()).timeout

    def read(self) -> LeaseRecord | None:
        """The lease as it is; None where there is none.

        Raises:
            ApiFailure: the server does not say.
        """
        try:
            with calling(f"show the Lease {self._name!r}"):
                return _record(
                    self._api.read_namespaced_lease(
                        self._name, self._namespace, _request_timeout=self._timeout
                    )
                )
        except ApiFailure as failure:
            if failure.code == NOT_FOUND:
                return None
            raise

    def create(self, record: LeaseRecord) -> LeaseRecord:
        """Write the first one.

        Raises:
            ApiFailure: another process was faster (409), or the server does not take it.
        """
        body = {"metadata": {"name": self._name}, "spec": _spec(record)}
        with calling(f"let the Lease {self._name!r} be created"):
            return _record(
                self._api.create_namespaced_lease(
                    self._namespace, V1Lease.model_validate(body), _request_timeout=self._timeout
                )
            )

    def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Write over ``record.version``.

        Raises:
            ApiFailure: that is not the present version (409), or the server does not take it.
        """
        body = {"metadata": {"resourceVersion": record.version}, "spec": _spec(record)}
        with calling(f"let the Lease {self._name!r} be written"):
            return _record(
                self._api.patch_namespaced_lease(
                    self._name, self._namespace, body, _request_timeout=self._timeout
                )
            )


def _record(lease: V1Lease) -> LeaseRecord:
    spec, metadata = lease.spec or V1LeaseSpec(), lease.metadata or V1ObjectMeta()
    return LeaseRecord(
        holder=spec.holder_identity or "",
        duration_s=spec.lease_duration_seconds or 0,
        acquired_at=spec.acquire_time or _NEVER,
        renewed_at=spec.renew_time or _NEVER,
        transitions=spec.lease_transitions or 0,
        version=metadata.resource_version or "",
    )


def _spec(record: LeaseRecord) -> dict[str, Any]:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_s,
        "acquireTime": _micro_time(record.acquired_at),
        "renewTime": _micro_time(record.renewed_at),
        "leaseTransitions": record.transitions,
    }


def _micro_time(at: datetime) -> datetime:
    """The server wants digits after the point, and the client library leaves them out where they are all zero."""
    return at.replace(microsecond=at.microsecond or 1)
