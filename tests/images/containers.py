"""Our own containers: podman and buildah on a storage of this test, apart from the machine's.

Layers are kept in one folder from build to build. Pods only read them: whatever else podman knows of pods and networks lies
under /run, which is a fresh file system in the namespace where the pods run. Nothing outlives it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

RUN = Path("/run/pipespec-images")

_BUILDS = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{run}/builds"
"""
_PODS = """\
[storage]
driver = "overlay"
graphroot = "{run}/pods"
runroot = "{run}/storage"
[storage.options]
additionalimagestores = ["{folder}/storage"]
"""
_SETTINGS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
image_copy_tmp_dir = "{folder}/tmp"
[network]
network_config_dir = "{run}/networks"
"""


@dataclass(frozen=True, slots=True)
class Containers:
    """Runs podman and buildah.

    Attributes:
        folder: of layers and of what is needed to build them.
        is_builder: writes layers; else they are only read.
    """

    folder: Path
    is_builder: bool = False

    def __post_init__(self) -> None:
        """Write the settings."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        files = {"builds.conf": _BUILDS, "pods.conf": _PODS, "containers.conf": _SETTINGS}
        for name, text in files.items():
            (self.folder / name).write_text(text.format(folder=self.folder, run=RUN), encoding="utf-8")

    def run(
        self,
        *command: str,
        timeout_s: float = 120.0,
        capture: bool = True,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Run a command that knows of this storage; what it said, or nothing where that goes to the terminal.

        Args:
            command: ``podman`` or ``buildah``, or what calls them, with arguments.
            timeout_s: it is killed then.
            capture: False leaves what it says to the terminal.
            settings: further environment variables.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            command,
            check=False,
            env={**self.environment, **settings},
            timeout=timeout_s,
            text=True,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
        )
        if done.returncode != 0:
            said = (done.stdout or "")[-2000:]
            raise RuntimeError(f"{' '.join(command[:4])} ... ended with {done.returncode}\n{said}")
        return done.stdout or ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which podman and buildah find all this."""
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.folder / ("builds.conf" if self.is_builder else "pods.conf")),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "TMPDIR": str(self.folder / "tmp"),
        }
