"""``pipespec deploy`` over the chart: what Helm renders, and what the planner says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helm.tools import helm

from chart.release import CHART, EXAMPLES, run_helm
from pipespec.cli.main import ASKED_WRONGLY, run

EMULATED = str(CHART / "examples" / "emulated.yaml")


def deploy(command: str, *arguments: str) -> int:
    return run(["deploy", command, *arguments, "--helm", str(helm(4))])


def test_it_renders_what_helm_renders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert deploy("render", EMULATED, "--name", "demo", "--out", str(tmp_path / "out.yaml")) == 0
    assert deploy("render", EMULATED, "--name", "demo") == 0
    expected = run_helm(["template", "demo", str(CHART), "--namespace", "default", "--values", EMULATED])
    assert capsys.readouterr().out == expected == (tmp_path / "out.yaml").read_text()


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_looked_at(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = CHART / "examples" / f"{example}.yaml"
    assert deploy("check", str(values), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    stages = yaml.safe_load(values.read_text())["stages"]
    assert len(found["stages"]) == len(stages)
    is_emulated = all(stage.get("kind") == "emulated" for stage in stages.values())
    assert bool(found["load"]) is bool(found["one_stream"]) is is_emulated


def test_gpus_are_counted_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy("check", str(CHART / "examples" / "llama-1b-8b-70b.yaml")) == 0
    shown = capsys.readouterr().out
    assert "GPUs: 4" in shown
    assert "--profile" in shown


def test_strict_fails_where_there_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    lone = ["--set", "stages.target.replicas=1"]
    assert deploy("check", EMULATED, *lone, "--strict") == 1
    assert "the target has one replica" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.yaml"], "there is no values file none.yaml"),
        ([EMULATED, "--set", "gatway.replicas=2"], "the chart refuses these values"),
        ([EMULATED, "--chart", "nowhere"], "the chart refuses these values"),
        ([EMULATED, "--profile", "none.yaml"], "cannot read the pipeline file none.yaml"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy("check", *arguments) == ASKED_WRONGLY
    assert said in capsys.readouterr().err


def test_without_helm_it_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "render", EMULATED, "--helm", "no-such-helm"]) == ASKED_WRONGLY
    assert "install Helm" in capsys.readouterr().err
