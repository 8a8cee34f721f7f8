"""EndpointSlices as the API shows them."""

from __future__ import annotations

from typing import Any

from kube.api_server import NAMESPACE

RESOURCE = "discovery.k8s.io/v1/endpointslices"


def endpoint_slice(service: str, *, name: str = "s", **pods: bool | None) -> dict[str, Any]:
    """Pods by name, with dashes for underscores; True: terminating; None: nothing is said."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": [
            {
                "addresses": ["10.0.0.1"],
                "conditions": {"ready": not is_terminating, "terminating": is_terminating},
                "targetRef": {"kind": "Pod", "name": pod.replace("_", "-"), "namespace": NAMESPACE},
            }
            for pod, is_terminating in pods.items()
        ],
    }
