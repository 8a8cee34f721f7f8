"""Whoever has nothing to connect with is told what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubernetes.config import incluster_config, kube_config

from kube.api_server import NAMESPACE, ApiServer, stateful_set
from kube.kubeconfig import kubeconfig
from pipespec.kube.connection import connect
from pipespec.kube.scale import Scales
from pipespec.ops.errors import SettingsError


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, no kubeconfig."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))


def test_without_a_cluster_and_a_kubeconfig_both_are_named() -> None:
    with pytest.raises(SettingsError, match=r"service account.*kubeconfig"):
        connect()


def test_a_pod_without_its_token_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", "/nowhere")
    with pytest.raises(SettingsError, match="token file does not exist"):
        connect()


@pytest.mark.parametrize("text", ["{", "[]", "clusters: []"])
def test_a_kubeconfig_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(SettingsError, match="KUBECONFIG"):
        connect()


def test_a_kubeconfig_will_do(tmp_path: Path, running: tuple[ApiServer, str]) -> None:
    api, url = running
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(url)))
    api.store("apps/v1/statefulsets", "web", stateful_set(2))
    with connect() as client:
        assert Scales(client, NAMESPACE).read("web").replicas == 2


def test_the_library_does_not_retry_behind_our_back(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig("http://127.0.0.1:1")))
    with connect() as client:
        assert client.configuration.retries is False


def test_a_missing_library_says_which_extra_brings_it() -> None:
    code = "import sys; sys.modules['kubernetes'] = None; import pipespec.kube.scale"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().splitlines()[-1].startswith("pipespec.ops.errors.SettingsError")
    assert "pipespec[cluster]" in done.stderr
