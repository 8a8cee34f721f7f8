"""Keys and certificate of the gateways: Secrets that are mounted, named in the pipeline file, and trusted by the tests."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from chart.release import EXAMPLES, Manifest, Release, render

LOCKED = "locked-down"


def gateway_pod(release: Release) -> Manifest:
    spec: Manifest = release.of("Deployment")["demo-pipespec-gateway"]["spec"]["template"]["spec"]
    return spec


def secrets(pod: Manifest) -> dict[str, Any]:
    """Secrets that the only container of a pod mounts, by the folder; keys of the bus and of ZeroMQ left out."""
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"] if _is_of_edges(volume)}
    mounts = pod["containers"][0]["volumeMounts"]
    assert all(mount["readOnly"] for mount in mounts if mount["name"] in volumes)
    return {mount["mountPath"]: volumes[mount["name"]] for mount in mounts if mount["name"] in volumes}


def _is_of_edges(volume: Manifest) -> bool:
    return "secret" in volume and volume["name"] not in ("bus-keys", "zmq-keys")


def folder(file: object) -> str:
    return str(PurePosixPath(str(file)).parent)


def test_what_the_pipeline_file_names_is_mounted() -> None:
    release = render(LOCKED)
    gateway, mounted = release.pipeline.gateway, secrets(gateway_pod(release))
    assert str(gateway.api_keys) == "/etc/pipespec-api-keys/api-keys.yaml"
    assert mounted[folder(gateway.api_keys)]["secretName"] == "pipespec-api-keys"
    assert folder(gateway.tls_certificate) == folder(gateway.tls_key)
    assert mounted[folder(gateway.tls_key)]["secretName"] == "pipespec-tls"
    assert {secret["defaultMode"] for secret in mounted.values()} == {0o440}, "for the pod's group alone"
    assert not gateway.insecure


def test_another_key_of_the_secret_is_found() -> None:
    gateway = render(LOCKED, "gateway.auth.secretKey=team.json").pipeline.gateway
    assert str(gateway.api_keys) == "/etc/pipespec-api-keys/team.json"


def test_only_gateways_get_them() -> None:
    release = render(LOCKED)
    for name, pod in release.pods():
        if name.startswith(("StatefulSet", "Job")):
            assert not [volume for volume in pod["spec"]["volumes"] if _is_of_edges(volume)], name


def test_no_gateway_has_a_secret_in_its_environment() -> None:
    assert "secretKeyRef" not in str(gateway_pod(render(LOCKED)))


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example != LOCKED])
def test_the_other_examples_say_that_they_are_open(example: str) -> None:
    release = render(example)
    assert release.pipeline.gateway.insecure
    assert not secrets(gateway_pod(release))


def pods_of_helm_test(release: Release) -> dict[str, Manifest]:
    prefix = "demo-pipespec-test-"
    return {name.removeprefix(prefix): pod["spec"] for name, pod in release.of("Pod").items()}


def test_the_pods_of_helm_test_have_a_key_and_trust_the_authority() -> None:
    pods = pods_of_helm_test(render(LOCKED))
    for name in ("http", "grpc"):
        container = pods[name]["containers"][0]
        (key,) = [one for one in container["env"] if one["name"] == "PIPESPEC_API_KEY"]
        assert key["valueFrom"]["secretKeyRef"] == {"name": "pipespec-test-key", "key": "api-key"}
        (ca,) = secrets(pods[name]).values()
        assert ca["items"] == [{"key": "ca.crt", "path": "ca.crt"}], "and not the gateways' own key"
        assert "/etc/pipespec-tls/ca.crt" in container["args"]
        assert [argument for argument in container["args"] if argument.startswith(("https://", "grpcs://"))]


def test_a_well_known_authority_needs_no_file() -> None:
    for name, pod in pods_of_helm_test(render(LOCKED, "gateway.tls.caKey=")).items():
        assert not secrets(pod), name
        assert "--ca" not in pod["containers"][0]["args"]


def test_services_say_what_is_spoken_behind_them() -> None:
    def protocols(example: str) -> set[tuple[str, str]]:
        services = render(example).of("Service")
        return {
            (port["name"], port["appProtocol"])
            for name, service in services.items()
            if "gateway" in name
            for port in service["spec"]["ports"]
            if "appProtocol" in port
        }

    assert protocols("emulated") == {("http", "http"), ("grpc", "kubernetes.io/h2c")}
    assert protocols(LOCKED) == {("http", "https"), ("grpc", "https")}
