"""Programs that are no part of the product: what builds images and runs pods.

Only Debian's packages are known by name. Elsewhere, or without the right to install, the message says what is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import click

PACKAGES = {
    "buildah": "buildah",
    "podman": "podman",
    "crun": "crun",
    "mmdebstrap": "mmdebstrap",
    "catatonit": "catatonit",  # podman's pause image is made of it
    "iptables": "iptables",  # the pods' network
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""Debian's package of every program."""
_NO_PROGRAMS = ("containernetworking-plugins", "debian-archive-keyring")
INSTALL_S = 600.0


def missing() -> dict[str, str]:
    """Programs that are not there, with their packages."""
    return {program: package for program, package in PACKAGES.items() if shutil.which(program) is None}


def install() -> None:
    """Install what is missing.

    Raises:
        SystemExit: this is not root on Debian.
    """
    absent = missing()
    if not absent:
        return
    packages = sorted({*absent.values(), *_NO_PROGRAMS})
    apt = shutil.which("apt-get")
    if os.geteuid() != 0 or apt is None:
        raise SystemExit(
            f"missing: {', '.join(sorted(absent))}; on Debian or Ubuntu, as root: apt-get install {' '.join(packages)}"
        )
    click.echo(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run([apt, "--quiet=2", *arguments], check=True, env=environment, timeout=INSTALL_S)
