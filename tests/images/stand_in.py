"""A base image made of Debian's packages, in the place of ``python:3.11-slim-bookworm``: no registry is needed.

It is the same distribution with the same minor version of Python, of Debian's own build; and larger, as it has pip as a package.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from images.containers import Containers

BASE = "docker.io/library/python:3.11-slim-bookworm"
MAKE_S = 600.0

_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_HOW_TO_REACH = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")
"""Options of this machine's apt that count here too: proxies, certificates, mirrors with old dates."""


def make(containers: Containers, folder: Path) -> None:
    """Make it, unless an earlier run has.

    Args:
        containers: where it is needed.
        folder: for the archive, which goes again.
    """
    if BASE in containers.run("podman", "images", "--format={{.Repository}}:{{.Tag}}").split():
        return
    click.echo("making the base image")
    archive = folder / "base.tar"
    try:
        _bootstrap(archive)
        containers.run("podman", "import", "--quiet", f"--change=ENV PATH={_PATH}", str(archive), BASE)
    finally:
        archive.unlink(missing_ok=True)


def _bootstrap(archive: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}"]
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += ["bookworm", str(archive)]
    if _SOURCES.is_file():
        command.append(str(_SOURCES))
    subprocess.run(command, check=True, timeout=MAKE_S)


def _apt_options() -> list[str]:
    said = subprocess.run(
        ["apt-config", "dump", "--no-empty", "Acquire"],  # noqa: S607 - where apt is, it is on the PATH
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [line for line in said.stdout.splitlines() if line.startswith(_HOW_TO_REACH)]
