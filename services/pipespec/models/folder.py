"""A model folder: what must lie in it before a stage or a gateway may use it.

The layout is Hugging Face's: ``config.json``, ``*.safetensors`` (with an index when sharded), ``tokenizer.json``.
Pickled weights are never read: opening them can run code.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from pipespec.ops.errors import ModelError

INDEX = "model.safetensors.index.json"


class Part(Enum):
    """What of a model is needed."""

    WHOLE = "whole"
    """All of it: a stage."""
    TEXT = "text"
    """Tokenizer, chat template and configuration, without weights: a gateway."""


def check_folder(folder: Path, *, reference: str, part: Part = Part.WHOLE) -> Path:
    """Return ``folder`` when everything is there.

    Raises:
        ModelError: something is missing; the message lists it.
    """
    missing = missing_files(folder, part=part)
    if missing:
        raise ModelError(f"model {reference!r}: {folder} lacks {', '.join(missing)}{_advice(folder)}")
    return folder


def missing_files(folder: Path, *, part: Part = Part.WHOLE) -> list[str]:
    """What a usable model folder would still need; empty when it is ready."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if part is Part.TEXT:
        return missing
    if (folder / INDEX).is_file():
        shards = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        missing += [shard for shard in shards if not (folder / shard).is_file()]
    elif not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; an absent file is an empty object.

    Raises:
        ModelError: the file holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def _advice(folder: Path) -> str:
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        return "; its weights are pickled (*.bin), which can run code: convert them to safetensors first"
    return ""
