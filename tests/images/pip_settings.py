"""How this machine reaches its package index, for pip inside a build: as a secret, so that no layer knows of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

_ENVIRONMENT = ":env:"
_FOLDER = re.compile(r"(?:file://)?(/\S+)")


def settings() -> dict[str, str]:
    """pip's settings by option, from its files and its environment variables, which win."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    pairs = [line.split("=", maxsplit=1) for line in listed.splitlines() if "=" in line]
    pairs.sort(key=lambda pair: pair[0].startswith(_ENVIRONMENT))
    return {name.rsplit(".", maxsplit=1)[-1]: str(ast.literal_eval(value)) for name, value in pairs}


def write_secret(path: Path) -> None:
    """Write ``settings`` as a pip.conf that only the owner can read."""
    lines = ["[global]"]
    for name, value in settings().items():
        lines.append(f"{name} = " + "\n    ".join(value.split("\n")))
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def mounts() -> list[str]:
    """Local folders that pip's settings name, and this machine's certificates, as read-only volumes of a build.

    Of an index the parent: its pages link to files that lie beside it.
    """
    folders = {Path("/etc/ssl/certs")}
    for name, value in settings().items():
        for found in _FOLDER.findall(value):
            path = Path(found)
            folders.add(path.parent if path.is_file() or "index-url" in name else path)
    return [f"--volume={folder}:{folder}:ro" for folder in sorted(folders) if folder.is_dir()]
