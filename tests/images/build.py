"""Builds both images as ``docker/README.md`` says, from a base that Debian's packages make.

The base stands in for ``python:3.11-slim-bookworm``, so that no registry is needed: the same distribution with the same
minor version of Python, of Debian's own build.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import click
from helm.tools import helm

from images import pip_settings, programs
from images.containers import Containers

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "test-images"
BASE = "docker.io/library/python:3.11-slim-bookworm"
MODEL = "embedded:smollm2-135m-instruct"
PREFIX, TAG = "localhost/pipespec/", "test"
SLIM, STAGE = f"{PREFIX}pipespec:{TAG}", f"{PREFIX}pipespec-stage:{TAG}"
BUILD = ROOT / "docker" / "build.sh"

_BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE_S, BUILD_S = 600.0, 2400.0


def main() -> None:
    """Install what is missing, make the base, build both images, say how large they are, fetch helm."""
    programs.install()
    containers = Containers(FOLDER, is_builder=True)
    _make_base(containers)
    pip_conf = FOLDER / "pip.conf"
    pip_settings.write_secret(pip_conf)
    try:
        for target, image in (("stage", STAGE), ("slim", SLIM)):
            started_s = time.monotonic()
            _build(containers, target, pip_conf)
            click.echo(
                f"{image}: {_megabytes(containers, image)} MB, of which the base is {_megabytes(containers, BASE)} MB; "
                f"built in {time.monotonic() - started_s:.0f} s"
            )
    finally:
        pip_conf.unlink()
    containers.run("buildah", "rm", "--all")  # what a build that failed has left
    containers.run("podman", "image", "prune", "--force", "--filter=until=24h")
    helm(4)


def _make_base(containers: Containers) -> None:
    archive = FOLDER / "base.tar"
    if BASE in containers.run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").split():
        return
    click.echo("making the base image")
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={_BASE_PACKAGES}",
            "bookworm",
            str(archive),
        ]
        + [str(source) for source in [Path("/etc/apt/sources.list.d/debian.sources")] if source.is_file()],
        check=True,
        timeout=BASE_S,
    )
    containers.run("podman", "import", "--quiet", "--change", f"ENV PATH={_PATH}", str(archive), BASE)
    archive.unlink()


def _build(containers: Containers, target: str, pip_conf: Path) -> None:
    flags = ["--isolation=chroot", "--pull-never", "--layers", *pip_settings.mounts()]
    settings = {
        "ENGINE": "buildah",
        "PREFIX": PREFIX,
        "TAG": TAG,
        "PYTHON_IMAGE": BASE,
        "MODEL": MODEL,
        "PIP_CONF": str(pip_conf),
        "BUILD_FLAGS": " ".join(flags),
    }
    containers.run("nice", "sh", str(BUILD), target, timeout_s=BUILD_S, capture=False, settings=settings)


def _megabytes(containers: Containers, image: str) -> int:
    size = containers.run("podman", "image", "inspect", "--format", "{{.Size}}", image)
    return round(int(size) / 1e6)


if __name__ == "__main__":
    main()
