"""Converts a GGUF file in a process of its own.

The conversion needs torch and transformers, which this package must not import; ``python -m pipespec.engine.convert``
does it and reports one JSON object per line: ``{"stage", "fraction"}``, or ``{"error"}`` before it fails.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pipespec.models.embedded import Progress
from pipespec.ops.errors import ModelError

_NEEDED = ("torch", "transformers", "gguf")


def convert(gguf: Path, out: Path, *, on_progress: Progress) -> None:
    """Write the model in ``gguf`` into the empty folder ``out``, in Hugging Face's layout.

    Raises:
        ModelError: a needed package is not installed, or the conversion failed.
    """
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ModelError(f"converting {gguf.name} needs {', '.join(absent)}: pip install 'pipespec[stage]'")
    command = [sys.executable, "-m", "pipespec.engine.convert", str(gguf), str(out)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as child,
    ):
        try:
            failure = _follow(child, on_progress=on_progress)
            child.wait()
        except BaseException:
            child.kill()
            raise
        if child.returncode != 0:
            complaints.seek(0)
            raise ModelError(f"cannot convert {gguf}: {failure or complaints.read()[-600:].strip()}")


def _follow(child: subprocess.Popen[str], *, on_progress: Progress) -> str:
    failure = ""
    for line in child.stdout or ():
        report = json.loads(line)
        if "error" in report:
            failure = report["error"]
        else:
            on_progress(report["stage"], report["fraction"])
    return failure
