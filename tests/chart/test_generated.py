"""What is made of something else is in step with it. `make chart` makes it anew."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helm import dashboards, manifests, readme, schema
from helm.tools import kubectl

from chart import golden
from chart.release import CHART, EXAMPLES, Manifest, render
from chart.validity import problems

_ADVICE = "run `make chart`"


def test_the_schema_is_that_of_the_code() -> None:
    written = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert written == schema.values_schema(), _ADVICE


def test_the_dashboards_are_in_step() -> None:
    folder = CHART / "files" / "dashboards"
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert written == dashboards.rendered(), _ADVICE


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm fetches what writes the README")
def test_the_readme_says_what_the_values_are() -> None:
    assert readme.README.read_text(encoding="utf-8") == readme.readme(), _ADVICE


@pytest.mark.parametrize("example", golden.EXAMPLES)
def test_the_rendering_is_the_golden_one(example: str) -> None:
    found = golden.difference(example)
    assert not found, f"{found}\nis that meant? {_ADVICE}"


def test_the_plain_manifests_are_in_step() -> None:
    written = {
        str(path.relative_to(manifests.FOLDER)): path.read_text(encoding="utf-8")
        for path in manifests.FOLDER.rglob("*.yaml")
    }
    assert written == manifests.files(), "run `make k8s`"


@pytest.fixture(scope="module", params=manifests.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    """An overlay's name and what kubectl makes of it."""
    folder = Path(manifests.FOLDER) / "overlays" / request.param
    done = subprocess.run(
        [str(kubectl()), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return request.param, list(yaml.safe_load_all(done.stdout))


def test_kustomize_makes_the_objects_of_the_chart(overlay: tuple[str, list[Manifest]]) -> None:
    example, objects = overlay
    chart = render(example, "tests.enabled=false", release="pipespec").objects
    made = {
        (one["kind"], one["metadata"]["name"])
        for one in objects
        if one["kind"] not in {"ConfigMap", "Namespace"}
    }
    assert made == {(one["kind"], one["metadata"]["name"]) for one in chart if one["kind"] != "ConfigMap"}


def test_what_kustomize_makes_is_valid_and_in_one_namespace(overlay: tuple[str, list[Manifest]]) -> None:
    _, objects = overlay
    assert not [found for one in objects for found in problems(one, "1.37")]
    assert {one["metadata"].get("namespace", manifests.NAMESPACE) for one in objects} == {manifests.NAMESPACE}


def test_pods_of_kustomize_are_replaced_when_the_pipeline_file_changes(
    overlay: tuple[str, list[Manifest]],
) -> None:
    _, objects = overlay
    (name,) = (one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap")
    assert name != manifests.NAME, "its name has a hash"
    pods = [
        one["spec"]["template"]["spec"] for one in objects if one["kind"] in {"Deployment", "StatefulSet"}
    ]
    assert {
        volume["configMap"]["name"] for pod in pods for volume in pod["volumes"] if "configMap" in volume
    } == {name}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_says_what_it_is(example: str) -> None:
    assert (CHART / "examples" / f"{example}.yaml").read_text(encoding="utf-8").startswith("# ")
