"""Keys in pods: every process mounts its own half, where the pipeline file says, and the Secrets are what `pipespec keys` prints."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from chart.release import Release, render
from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import CLIENT_SECRET
from pipespec.cli.keys import manifests

BROKER = "StatefulSet/demo-pipespec-broker"


def _secrets(release: Release) -> dict[str, dict[str, tuple[str, Any]]]:
    """By pod: volumes with keys of the bus and of ZeroMQ, and where they are mounted."""
    found: dict[str, dict[str, tuple[str, Any]]] = {}
    for name, pod in release.pods():
        container = pod["spec"]["containers"][0]
        mounts = {one["name"]: one for one in container.get("volumeMounts", ())}
        found[name] = {
            volume["secret"]["secretName"]: (mounts[volume["name"]]["mountPath"], volume["secret"])
            for volume in pod["spec"].get("volumes", ())
            if volume.get("secret", {}).get("secretName", "").startswith(("pipespec-bus-", "pipespec-zmq-"))
        }
    return found


def test_each_process_mounts_its_own_half_where_the_pipeline_file_says() -> None:
    release = render("locked-down")
    bus = release.pipeline.bus
    for name, secrets in _secrets(release).items():
        mounted = {secret: path for secret, (path, _) in secrets.items()}
        if name.startswith("Pod/") and not name.endswith("-zmq"):
            assert mounted == {}
        elif name.startswith("Pod/"):
            assert list(mounted) == ["pipespec-zmq-app"]
        elif name == BROKER:
            assert mounted == {"pipespec-bus-server": str(bus.server_keys)}
        elif name.endswith("-gateway"):
            zmq_keys = str(release.pipeline.gateway.zmq_keys)
            assert mounted == {
                "pipespec-bus-fleet": str(bus.client_keys),
                "pipespec-zmq-server": zmq_keys,
            }
        else:
            assert mounted == {"pipespec-bus-fleet": str(bus.client_keys)}


def test_key_files_are_for_their_owner_and_the_volumes_group() -> None:
    release = render("locked-down")
    for secrets in _secrets(release).values():
        assert {secret["defaultMode"] for _, secret in secrets.values()} <= {0o400}
    for name, pod in release.pods():
        assert pod["spec"]["securityContext"]["fsGroup"], name


def test_the_mounted_secrets_are_those_that_the_command_line_prints(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "bus")
    folder.create("fleet", num_servers=2)
    printed = {one["metadata"]["name"]: one["stringData"] for one in manifests(folder, "pipespec-bus")}
    assert set(printed) == {"pipespec-bus-server", "pipespec-bus-fleet"}
    assert {"server-0.key_secret", "server-1.key_secret", "fleet.1.key"} == set(
        printed["pipespec-bus-server"]
    )
    assert {CLIENT_SECRET, "server-0.key", "server-1.key"} == set(printed["pipespec-bus-fleet"])


def test_an_open_bus_mounts_nothing_and_says_so() -> None:
    release = render("cpu")
    assert release.pipeline.bus.insecure
    assert not any(_secrets(release).values())


def test_no_key_material_is_in_any_object() -> None:
    kinds = {one["kind"] for one in render("locked-down").objects}
    assert "Secret" not in kinds


@pytest.mark.parametrize(("tests_key", "expected"), [("", False), ("pipespec-zmq-app", True)])
def test_helm_test_asks_over_zeromq_where_it_has_a_key(tests_key: str, expected: bool) -> None:
    release = render("locked-down", f"tests.zmqKeysSecret={tests_key}")
    pods = release.of("Pod")
    assert ("demo-pipespec-test-zmq" in pods) is expected
    if expected:
        container = pods["demo-pipespec-test-zmq"]["spec"]["containers"][0]
        mounted = [PurePosixPath(one["mountPath"]) for one in container["volumeMounts"]]
        assert PurePosixPath(container["args"][-1]) in mounted
        assert container["args"][-2] == "--zmq-keys"


@pytest.mark.parametrize(("address", "flag"), [("0.0.0.0", True), ("::", True)])  # noqa: S104 - in pods
def test_the_chart_says_itself_that_pods_bind_any_address(address: str, flag: bool) -> None:
    assert render("cpu", values=f'bindAddress: "{address}"').pipeline.bind_any_address is flag
