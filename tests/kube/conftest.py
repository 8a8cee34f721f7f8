"""A Kubernetes API to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient

from kube.api_server import ApiServer, client_of, running_api


@pytest.fixture
def running() -> Iterator[tuple[ApiServer, str]]:
    """The server and its URL."""
    with running_api() as running:
        yield running


@pytest.fixture
def api(running: tuple[ApiServer, str]) -> ApiServer:
    """The server."""
    return running[0]


@pytest.fixture
def client(running: tuple[ApiServer, str]) -> Iterator[ApiClient]:
    """A connection to it."""
    with client_of(running[1]) as client:
        yield client
