"""Builds both images with ``docker/build.sh``, as everybody does, but from the base of ``stand_in`` and with this machine's pip."""

from __future__ import annotations

import time
from pathlib import Path

import click
from helm.tools import helm

from images import pip_settings, programs, stand_in
from images.containers import Containers
from images.stand_in import BASE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "test-images"
MODEL = "embedded:smollm2-135m-instruct"
PREFIX, TAG = "localhost/pipespec/", "test"
SLIM, STAGE = f"{PREFIX}pipespec:{TAG}", f"{PREFIX}pipespec-stage:{TAG}"
BUILD = ROOT / "docker" / "build.sh"

BUILD_S = 2400.0


def main() -> None:
    """Install what is missing, make the base, build both images, say how large they are, fetch helm."""
    programs.install()
    containers = Containers(FOLDER, is_builder=True)
    stand_in.make(containers, FOLDER)
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
    containers.run("podman", "image", "prune", "--force", "--filter=until=2h")
    helm(4)


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
