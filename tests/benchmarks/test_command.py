"""Bad options are refused with what was expected; the script runs from anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.comparison import command
from click.testing import CliRunner

SCRIPT = Path(command.__file__).parent.parent / "engine.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sessions", "1,x"], "expected positive numbers separated by commas"),
        (["--sessions", "0"], "expected positive numbers separated by commas"),
        (["--contenders", "nobody"], "no contender nobody; there are: generate-dynamic"),
        (["--kinds", "code,songs"], "there are: code, summary"),
        (["--tokens", "0"], "--tokens"),
        (["--dtype", "int3"], "--dtype"),
    ],
)
def test_a_bad_option_is_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(command.main, options)
    assert result.exit_code == 2
    assert message in result.output


def test_a_model_that_is_not_there_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(command.main, ["--model", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "does not exist" in result.output
    assert "Traceback" not in result.output


def test_the_script_finds_its_parts_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout
