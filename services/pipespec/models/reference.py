"""What ``StageSettings.model`` may say: a hub id, a local folder, a local GGUF file or an embedded model.

Parsing looks at the text, and at the disk only to tell a folder from a hub id; it never touches the network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipespec.ops.errors import ModelError

EMBEDDED_PREFIX = "embedded:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class ReferenceKind(StrEnum):
    """Where a model comes from."""

    HUB = "hub"
    """A repository of the Hugging Face hub."""
    FOLDER = "folder"
    """A local folder in Hugging Face's layout."""
    GGUF = "gguf"
    """A local GGUF file, converted once."""
    EMBEDDED = "embedded"
    """A small model that comes as a Python package, converted once."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed model reference.

    Attributes:
        kind: where the model comes from.
        text: as the user wrote it; names the model in errors.
        name: the hub id or the embedded name; empty for local ones.
        path: the local folder or file; None for the others.
    """

    kind: ReferenceKind
    text: str
    name: str = ""
    path: Path | None = None


def parse(text: str) -> Reference:
    """Read a reference.

    A path is told by its look (``./x``, ``../x``, ``/x``, ``~/x``) or by an existing folder of that name; everything
    else that looks like ``owner/name`` is a hub id.

    Raises:
        ModelError: ``text`` is none of the four forms.
    """
    if text.startswith(EMBEDDED_PREFIX):
        return Reference(ReferenceKind.EMBEDDED, text, name=text.removeprefix(EMBEDDED_PREFIX))
    path = Path(text).expanduser()
    if text.endswith(".gguf"):
        return Reference(ReferenceKind.GGUF, text, path=path)
    if text.startswith(("./", "../", "/", "~/")) or (text and path.is_dir()):
        return Reference(ReferenceKind.FOLDER, text, path=path)
    if _HUB_ID.fullmatch(text) and ".." not in text:
        return Reference(ReferenceKind.HUB, text, name=text)
    raise ModelError(
        f"model reference {text!r} is not understood; expected a hub id (owner/name), a local folder, "
        f"a local .gguf file or {EMBEDDED_PREFIX}smollm2-135m-instruct"
    )
