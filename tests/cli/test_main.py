"""Errors are one line on stderr and an exit code; commands answer for what they are asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipespec import __version__
from pipespec.cli import main
from pipespec.cli.main import run


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line."""
    code = run(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return code, captured.err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["generate"], "Missing argument 'PROMPT'"),
        (["up", "--http-port", "70000"], "70000 is not in the range"),
        (["generate", "x", "--url", "a", "--name", "b"], "exclude each other"),
        (["generate", "x", "--url", "http://127.0.0.1:1"], "grpc://host:port"),
        (["up", "nowhere.yaml"], "cannot read the pipeline file nowhere.yaml"),
        (["up", "--set", "lookahead"], "expected key=value"),
        (["up", "--set", "stages.7.lookahead=1"], "expected an index from 0 to 1, got '7'"),
        (["up", "--set", "gatway.http_port=1"], "gatway: unknown key"),
        (["serve", "stage", "--pipeline", "nowhere.yaml"], "Missing option '--rank'"),
        (
            ["serve", "stage", "--pipeline", "x", "--rank", "0", "--replica", "a.b"],
            "'a.b' is no replica name",
        ),
        (["serve", "gateway", "--pipeline", "x", "--replica", "G0"], "expected a DNS label"),
        (["serve", "broker", "--pipeline", "nowhere.yaml"], "cannot read the pipeline file"),
        (["serve", "autoscaler", "--pipeline", "nowhere.yaml"], "cannot read the pipeline file"),
    ],
)
def test_asking_wrongly_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], cache: Path, arguments: list[str], said: str
) -> None:
    code, line = fails(capsys, *arguments)
    assert code == main.ASKED_WRONGLY
    assert said in line
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["down"], "no pipeline is running"),
        (["down", "x"], "no pipeline 'x' is running"),
        (["generate", "x", "--name", "y"], "no pipeline 'y' is running"),
        (["generate", "x", "--url", "grpc://127.0.0.1:9"], "no gateway answers at 127.0.0.1:9"),
        (["models", "fetch", "embedded:nothing"], "no embedded model 'nothing'"),
        (["demo", "--pipeline", "{tmp}/two.yaml"], "does not exist"),
    ],
)
def test_what_fails_is_one_line_and_code_1(
    capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "two.yaml").write_text("stages: [{model: ./no-such-folder}]", encoding="utf-8")
    code, line = fails(capsys, *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert code == main.FAILED
    assert said in line


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert run(["--debug", "down"]) == main.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_a_rank_that_the_pipeline_lacks_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("stages: [{model: owner/model}]", encoding="utf-8")
    code, line = fails(capsys, "serve", "stage", "--pipeline", str(tmp_path / "one.yaml"), "--rank", "3")
    assert code == main.ASKED_WRONGLY
    assert "--rank 3: the pipeline has 1 stage(s)" in line


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "pipespec.cli", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_help_imports_no_service() -> None:
    code = (
        "import sys; from pipespec.cli.main import run; run(['--help']); "
        "print([m for m in ('torch', 'transformers', 'grpc', 'zmq', 'fastapi', 'tokenizers', 'kubernetes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
