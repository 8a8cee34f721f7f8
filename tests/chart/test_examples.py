"""Every example of the chart, with Helm 3 and Helm 4, on every Kubernetes that the chart supports."""

from __future__ import annotations

import pytest
import yaml

from chart.release import CHART, EXAMPLES, MONITORING, render, run_helm
from chart.validity import VERSIONS, problems
from pipespec.cli.cluster.footprint import footprint_of


def test_the_examples_that_the_readme_promises_are_there() -> None:
    promised = {"cpu", "single-gpu", "llama-1b-8b-70b", "autoscaled", "locked-down", "emulated"}
    assert promised <= set(EXAMPLES)


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_has_nothing_to_say(example: str, major: int) -> None:
    values = str(CHART / "examples" / f"{example}.yaml")
    said = run_helm(["lint", "--strict", str(CHART), "--values", values], major=major)
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_helms_make_the_same_of_it(example: str) -> None:
    def by_name(major: int) -> dict[tuple[str, str], object]:
        release = render(example, major=major, api_versions=MONITORING, kube_version="1.32.0")
        return {(one["kind"], one["metadata"]["name"]): one for one in release.objects}

    assert by_name(3) == by_name(4)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_every_version(version: str) -> None:
    releases = [render(example, api_versions=MONITORING) for example in EXAMPLES]
    distinct = {
        yaml.dump(one, Dumper=yaml.CSafeDumper): one for release in releases for one in release.objects
    }
    wrong = {
        f"{one['kind']}/{one['metadata']['name']}": found
        for one in distinct.values()
        if (found := problems(one, version))
    }
    assert not wrong


@pytest.mark.parametrize("version", ["1.29.0", "1.37.1"])
def test_the_oldest_and_the_newest_kubernetes_are_accepted(version: str) -> None:
    assert render("emulated", kube_version=version).objects


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_object_is_there_twice(example: str) -> None:
    objects = render(example, api_versions=MONITORING).objects
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_services_accept_the_pipeline_file(example: str) -> None:
    release = render(example)
    assert release.pipeline.kubernetes is not None
    assert set(release.pipeline.kubernetes.workloads) <= set(release.of("StatefulSet"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_deploy_check_can_read_what_it_takes_of_a_cluster(example: str) -> None:
    footprint = footprint_of(render(example).objects)
    assert footprint.brokers == 2
    assert footprint.gateways >= 1


def test_four_gpus_are_four() -> None:
    footprint = footprint_of(render("llama-1b-8b-70b").objects)
    assert [stage.num_accelerators for stage in footprint.stages] == [1, 1, 2]
    assert footprint.pipeline.target.tensor_parallel == 2


def test_the_notes_tell_the_next_command() -> None:
    values = str(CHART / "examples" / "cpu.yaml")
    said = run_helm(["install", "demo", str(CHART), "--values", values, "--dry-run=client"])
    assert "helm test demo" in said
    assert "smollm2-135m-instruct" in said


@pytest.mark.parametrize("setting", ["gateway.insecure", "gateway.zmqInsecure", "bus.insecure"])
def test_the_notes_warn_of_every_door_that_is_open(setting: str) -> None:
    open_, closed = (
        run_helm(
            ["install", "demo", str(CHART), "--values", str(CHART / "examples" / values), "--dry-run=client"]
        )
        for values in ("cpu.yaml", "locked-down.yaml")
    )
    assert f"\n{setting} is true: " in open_
    assert f"\n{setting} is true: " not in closed
