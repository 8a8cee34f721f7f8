"""Prints what the named extras of a pyproject.toml need, one requirement a line.

The images install these before they copy the sources, so that a change of code does not install them again.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(document: Path, extras: list[str]) -> list[str]:
    """The project's own dependencies and those of ``extras``, sorted.

    Raises:
        SystemExit: the project has no such extra.
    """
    project = tomllib.loads(document.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in optional]
    if unknown:
        raise SystemExit(f"{document} has no extra {unknown[0]!r}; it has: {', '.join(sorted(optional))}")
    return sorted({*project["dependencies"], *(one for extra in extras for one in optional[extra])})


if __name__ == "__main__":
    sys.stdout.writelines(f"{one}\n" for one in requirements(Path(sys.argv[1]), sys.argv[2:]))
