"""What every pod of every example keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chart.release import EXAMPLES, Manifest, render

SERVICES = ("Deployment", "StatefulSet")
WRITABLE = {"/tmp", "/home/pipespec", "/dev/shm"}  # noqa: S108 - folders of the pods
VOLUMES_OF_RESTRICTED = {
    "configMap",
    "emptyDir",
    "persistentVolumeClaim",
    "secret",
    "projected",
    "downwardAPI",
}


def _containers(pod: Manifest) -> Iterator[Manifest]:
    yield from pod["spec"].get("initContainers", ())
    yield from pod["spec"]["containers"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_pods_are_restricted_as_the_pod_security_standard_says(example: str) -> None:
    for name, pod in render(example).pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all(VOLUMES_OF_RESTRICTED & set(volume) for volume in spec["volumes"]), name
        for container in _containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert not context.get("privileged"), name
            assert not any("hostPort" in port for port in container.get("ports", ())), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_container_has_its_writable_folders_and_says_what_it_needs(example: str) -> None:
    for name, pod in render(example).pods():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in _containers(pod):
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert set(mounts) >= WRITABLE, name
            assert {mount["name"] for mount in mounts.values()} <= set(volumes), name
            assert container["resources"]["requests"], name
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory", name


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_environment_of_services_and_a_token_only_where_it_is_used(example: str) -> None:
    release = render(example)
    with_token = {name for name, pod in release.pods() if pod["spec"]["automountServiceAccountToken"]}
    bound = {subject["name"] for one in release.of("RoleBinding").values() for subject in one["subjects"]}
    accounts = {pod["spec"]["serviceAccountName"] for name, pod in release.pods() if name in with_token}
    assert accounts == bound
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in release.pods())


@pytest.mark.parametrize("example", EXAMPLES)
def test_probes_give_time_and_never_ask_a_client_port(example: str) -> None:
    for name, pod in render(example).pods():
        if not name.startswith(SERVICES):
            continue
        container = pod["spec"]["containers"][0]
        paths = {
            kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        is_stage = pod["metadata"]["labels"]["app.kubernetes.io/component"].startswith("stage-")
        assert paths["livenessProbe"]["path"] == "/livez", name
        assert paths["readinessProbe"]["path"] == "/readyz", name
        assert paths["startupProbe"]["path"] == ("/readyz" if is_stage else "/livez"), name
        assert {path["port"] for path in paths.values()} == {"metrics"}, name
        assert all(container[kind]["timeoutSeconds"] == 15 for kind in paths), name
        if is_stage:
            startup = container["startupProbe"]
            assert startup["periodSeconds"] * startup["failureThreshold"] == 600, name


@pytest.mark.parametrize(
    ("values", "gateway_s", "target_s"),
    [
        ("", 75, 40),
        ("gateway: {drainDelayS: 20, drainTimeoutS: 300}", 330, 40),
        ("{gateway: {drainDelayS: 0}, stages: {target: {drainTimeoutS: 0}}}", 70, 10),
        ("{gateway: {drainDelayS: 0.5}, stages: {target: {drainTimeoutS: 1.5}}}", 71, 12),
        ("stageDefaults: {drainTimeoutS: 600}", 75, 610),
        ("stages: {target: {terminationGracePeriodSeconds: 900}}", 75, 900),
    ],
)
def test_the_grace_period_is_as_long_as_the_drain(values: str, gateway_s: int, target_s: int) -> None:
    release = render("cpu", values=values)

    def grace(kind: str, name: str) -> int:
        return int(release.of(kind)[name]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    assert grace("Deployment", "demo-pipespec-gateway") == gateway_s
    assert grace("StatefulSet", "demo-pipespec-target") == target_s


@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_is_cut_by_the_kubelet_that_the_services_would_still_serve(example: str) -> None:
    release = render(example)
    pipeline = release.pipeline
    assert pipeline.kubernetes is not None
    for rank, name in enumerate(pipeline.kubernetes.workloads):
        pod = release.of("StatefulSet")[name]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= pipeline.stages[rank].drain_timeout_s + 10
    (gateway,) = (one for name, one in release.of("Deployment").items() if name.endswith("-gateway"))
    drain_s = pipeline.gateway.drain_delay_s + pipeline.gateway.drain_timeout_s
    assert gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 10


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_something_scales_has_no_replicas_of_its_own(example: str) -> None:
    release = render(example)
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for one in release.of(kind).values()
    }
    pipeline = release.pipeline
    assert pipeline.kubernetes is not None
    for name, stage in zip(pipeline.kubernetes.workloads, pipeline.stages, strict=True):
        if stage.scaling is not None:
            assert name not in scaled, "two scalers"
            scaled.add(name)
    for kind in SERVICES:
        for name, one in release.of(kind).items():
            assert ("replicas" in one["spec"]) == (name not in scaled), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_stages_never_surge_and_start_together(example: str) -> None:
    for one in render(example).of("StatefulSet").values():
        assert one["spec"]["podManagementPolicy"] == "Parallel"
        assert one["spec"]["minReadySeconds"] > 0
        assert one["spec"]["serviceName"] in render(example).of("Service")


def test_a_stage_without_a_model_runs_in_the_slim_image() -> None:
    sets = render("cpu").of("StatefulSet")

    def image(name: str) -> str:
        return str(sets[f"demo-pipespec-{name}"]["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image("suffix") == "pipespec:0.1.0"
    assert image("target") == "pipespec-stage:0.1.0"


def test_a_digest_is_part_of_the_image() -> None:
    images = {container["image"] for _, pod in render("locked-down").pods() for container in _containers(pod)}
    assert images == {
        f"registry.example.com/pipespec:0.1.0@sha256:{'1' * 64}",
        f"registry.example.com/pipespec-stage:0.1.0@sha256:{'2' * 64}",
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_gpus_are_asked_for_and_limited_alike(example: str) -> None:
    for name, pod in render(example).pods():
        resources = pod["spec"]["containers"][0]["resources"]
        gpus = {key: value for key, value in resources.get("limits", {}).items() if "/" in key}
        assert gpus == {key: value for key, value in resources["requests"].items() if "/" in key}, name
