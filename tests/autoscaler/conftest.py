"""A Kubernetes API to talk to."""

from kube.conftest import api, client, running

__all__ = ["api", "client", "running"]
