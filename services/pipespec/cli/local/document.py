"""The pipeline that a command means: a file or the default, with single settings changed from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, parse_pipeline, read_document

DEFAULT: dict[str, Any] = {
    "stages": [
        {"kind": "suffix", "lookahead": 16},
        {"kind": "transformers", "model": "embedded:smollm2-135m-instruct"},
    ]
}
"""What runs when no file is given: drafts from the session's own text, and the embedded model as the target."""


def read_pipeline(file: Path | None, *, changes: Iterable[tuple[str, Any]] = ()) -> Pipeline:
    """Read ``file``, or the default, and change single settings.

    Args:
        file: None for the default.
        changes: dotted path and new value, such as ``("stages.1.lookahead", 4)``.

    Raises:
        SettingsError: the file cannot be read, a path leads nowhere, or a setting cannot be used.
    """
    document = read_document(file) if file else yaml.safe_load(yaml.safe_dump(DEFAULT))
    for path, value in changes:
        _change(document, path, value)
    return parse_pipeline(document, source=str(file) if file else "the default pipeline")


def parse_change(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is YAML.

    Raises:
        SettingsError: it is not of that form.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SettingsError(f"expected key=value, such as stages.1.lookahead=4, got {text!r}")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: {value!r} is not a YAML value") from error


def _change(document: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place = document
    for index, part in enumerate(parents):
        where = ".".join(parents[: index + 1])
        if isinstance(place, dict):
            place = place.setdefault(part, {})
        elif isinstance(place, list):
            place = place[_item(place, part, where)]
        else:
            raise SettingsError(f"cannot set {path}: {'.'.join(parents[:index])} holds no further keys")
    if isinstance(place, list):
        place[_item(place, last, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise SettingsError(f"cannot set {path}: {'.'.join(parents)} holds no further keys")


def _item(items: list[Any], part: str, where: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise SettingsError(f"cannot set {where}: expected an index from 0 to {len(items) - 1}, got {part!r}")
    return int(part)
