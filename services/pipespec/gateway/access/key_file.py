"""The file of those who may use the gateway: YAML or JSON, mounted from a Secret or written by ``pipespec api-keys``.

    principals:
      - name: alice
        models: [smollm2-135m-instruct]     # without it: all
        max_requests: 8                     # without it: as many as there is room for
        keys:
          - sha256: 5e88...                 # of the key; or, where files are secret enough:
          - plain: ps-...
            expires: 2027-01-01T00:00:00Z

A key is random (256 bits), so that a plain SHA-256 of it tells nothing; passwords do not belong here. No error shows
what the file holds: it may be a key in the wrong place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import AwareDatetime, Field, SecretStr, ValidationError, model_validator

from pipespec.ops.errors import SettingsError
from pipespec.ops.secret_files import refuse_readable_by_others
from pipespec.ops.settings import Settings, UniqueKeys

MAX_FILE = 1024 * 1024
"""Bytes."""
MIN_PLAIN = 20
"""Characters; what is shorter is a password, and could be guessed."""

PrincipalName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]


class KeyEntry(Settings):
    """One key."""

    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Digest of the key, in hexadecimal."""
    plain: SecretStr | None = Field(default=None, min_length=MIN_PLAIN, max_length=256)
    """The key itself, instead."""
    expires: AwareDatetime | None = None
    """From then on it is refused; with a time zone."""

    @model_validator(mode="after")
    def _said_one_way(self) -> Self:
        if (self.sha256 is None) == (self.plain is None):
            raise ValueError("give either 'sha256' or 'plain'")
        return self

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        if self.plain is not None:
            return digest_of(self.plain.get_secret_value())
        return bytes.fromhex(self.sha256 or "")


class PrincipalEntry(Settings):
    """One who may use the gateway; several keys, so that one can be replaced while the other is in use."""

    name: PrincipalName
    models: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=1000)
    """That it may use; all where it is left out."""
    max_requests: int | None = Field(default=None, ge=1, le=1_000_000)
    """That may run at once at one gateway replica; each choice of each prompt counts as one."""
    keys: tuple[KeyEntry, ...] = Field(min_length=1, max_length=16)


class KeyFile(Settings):
    """The whole file."""

    principals: tuple[PrincipalEntry, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _nobody_twice(self) -> Self:
        names = [principal.name for principal in self.principals]
        if len(set(names)) != len(names):
            raise ValueError("a name is given twice; write all keys of one principal under one name")
        digests = [key.digest for principal in self.principals for key in principal.keys]
        if len(set(digests)) != len(digests):
            raise ValueError("a key is given twice; it tells who comes, so each belongs to one principal")
        return self


def digest_of(key: str) -> bytes:
    """What is kept and compared of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def load_key_file(path: Path) -> KeyFile:
    """Read and check a key file.

    Raises:
        SettingsError: it cannot be read or used, or holds plain keys and others can read it; the message shows nothing
            that it holds.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SettingsError(f"cannot read the API keys in {path}: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise SettingsError(f"the API keys in {path} are larger than {MAX_FILE} bytes")
    try:
        document = yaml.load(raw.decode(), Loader=UniqueKeys)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise SettingsError(f"{path} is not valid YAML{where}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path} is not valid YAML in UTF-8") from None
    checked = parse_key_file(document, source=str(path))
    if any(key.plain is not None for principal in checked.principals for key in principal.keys):
        refuse_readable_by_others(path)
    return checked


def parse_key_file(document: object, *, source: str) -> KeyFile:
    """Check what is already read; ``source`` names it in errors.

    Raises:
        SettingsError: it cannot be used; the message shows nothing that it holds.
    """
    try:
        return KeyFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]  # of what holds something bad it is said as well that it holds too little
        said = _explain(first["loc"], first["msg"])
        raise SettingsError(f"the API keys in {source} cannot be used: {said}") from None


def _explain(loc: tuple[int | str, ...], message: str) -> str:
    # Only parts of the path that are ours: an unknown key of the file may be a secret.
    known = {*KeyFile.model_fields, *PrincipalEntry.model_fields, *KeyEntry.model_fields}
    path = ".".join(str(part) if isinstance(part, int) or part in known else "(unknown)" for part in loc)
    return f"{path or 'the whole'}: {message}"
