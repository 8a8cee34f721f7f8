"""Ways in which data becomes code are banned from the source: by the linter, whose rules bite, and by a look at every call."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = {
    "import pickle": "TID251",
    "import dill": "TID251",
    "import torch\ntorch.load('x')": "TID251",
    "from torch import load\nload('x')": "TID251",
    "import yaml\nyaml.load('x')": "S506",
    "import yaml\nyaml.full_load('x')": "TID251",
    "import pickle\npickle.loads(b'')": "S301",
    "eval('1')": "S307",
    "exec('1')": "S102",
    "import subprocess\nsubprocess.run('x', shell=True)": "S602",
}


@pytest.mark.parametrize("code", BANNED)
def test_the_linter_refuses_it(code: str) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--output-format",
            "concise",
            "--stdin-filename",
            "services/pipespec/x.py",
            "-",
        ],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f" {BANNED[code]} " in told.stdout


def unsafe_calls(tree: ast.AST) -> list[str]:
    """What the linter cannot see, because it hangs on objects or on arguments."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("recv_pyobj", "send_pyobj"):
            found.append(node.attr)
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            is_off = isinstance(node.value, ast.Constant) and node.value.value is False
            found += [] if is_off else ["trust_remote_code"]
    return found


@pytest.mark.parametrize(
    "code", ["socket.recv_pyobj()", "load(trust_remote_code=True)", "load(trust_remote_code=settings.trust)"]
)
def test_the_look_at_calls_finds_it(code: str) -> None:
    assert unsafe_calls(ast.parse(code))


@pytest.mark.parametrize("folder", ["services", "benchmarks", "helm", "docker"])
def test_no_source_file_does_it(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    assert {
        str(file): unsafe for file in files if (unsafe := unsafe_calls(ast.parse(file.read_text())))
    } == {}
