"""Changes and shows a file of API keys; what is written can be read again, or nothing is."""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from pipespec.gateway.access.key_file import (
    KeyEntry,
    KeyFile,
    PrincipalEntry,
    digest_of,
    load_key_file,
    parse_key_file,
)
from pipespec.ops.errors import SettingsError

PREFIX = "ps-"
"""Of every key, so that one that has leaked is recognized."""
_HEAD = "# Who may use the gateway over HTTP and gRPC; written by `pipespec api-keys`.\n"


def add_key(
    file: Path, name: str, *, models: Sequence[str], max_requests: int | None, days: int | None
) -> str:
    """Add a new key of ``name`` to ``file``, which may not be there yet; the key.

    Args:
        file: YAML; written anew.
        name: of the principal.
        models: that it may use from now on; empty leaves it as it is.
        max_requests: that may run at once from now on; None leaves it as it is.
        days: until the key expires.

    Raises:
        SettingsError: the file cannot be read, used or written.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"sha256": digest_of(key).hex()}
    if days is not None:
        now = datetime.datetime.now(tz=datetime.UTC).replace(microsecond=0)
        entry["expires"] = now + datetime.timedelta(days=days)
    changes: dict[str, Any] = {"models": list(models)} if models else {}
    if max_requests is not None:
        changes["max_requests"] = max_requests
    known = load_key_file(file) if file.exists() else None
    _write(file, _with_key(known, name, entry, changes))
    return key


def show_keys(file: Path) -> None:
    """Print who has keys.

    Raises:
        SettingsError: the file cannot be read or used.
    """
    table = Table("name", "models", "at once", "keys", box=None, pad_edge=False)
    for principal in load_key_file(file).principals:
        table.add_row(
            principal.name,
            "all" if principal.models is None else ", ".join(principal.models),
            "any" if principal.max_requests is None else str(principal.max_requests),
            ", ".join(_shown(key) for key in principal.keys),
        )
    Console(highlight=False, soft_wrap=True, markup=False).print(table)


def _shown(key: KeyEntry) -> str:
    text = key.digest.hex()[:8]
    if key.expires is None:
        return text
    is_over = key.expires <= datetime.datetime.now(tz=datetime.UTC)
    return f"{text} ({'expired' if is_over else 'expires'} {key.expires:%Y-%m-%d})"


def _with_key(
    known: KeyFile | None, name: str, entry: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """The document with one more key."""
    principals = [] if known is None else [_document(principal) for principal in known.principals]
    for principal in principals:
        if principal["name"] == name:
            principal.update(changes)
            principal["keys"].append(entry)
            break
    else:
        principals.append({"name": name, **changes, "keys": [entry]})
    return {"principals": principals}


def _document(principal: PrincipalEntry) -> dict[str, Any]:
    document = principal.model_dump(exclude_none=True, exclude={"keys"})
    if "models" in document:
        document["models"] = list(document["models"])
    document["keys"] = [_key_document(key) for key in principal.keys]
    return document


def _key_document(key: KeyEntry) -> dict[str, Any]:
    document = key.model_dump(exclude_none=True)
    if key.plain is not None:
        document["plain"] = key.plain.get_secret_value()
    return document


def _write(file: Path, document: dict[str, Any]) -> None:
    """Replace the file at once; a new one only its owner may read.

    Raises:
        SettingsError: the document could not be used, or the file cannot be written.
    """
    parse_key_file(document, source=str(file))
    scratch = file.with_name(f".{file.name}.partial")
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
            out.write(_HEAD + yaml.safe_dump(document, sort_keys=False))
        scratch.replace(file)
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error.strerror}") from error
