"""The cache folder: where converted models live.

``PIPESPEC_CACHE`` moves it; this is the only place that reads that variable. Hub models stay in Hugging Face's own
cache, so that one download serves every tool of the machine. A folder in here is complete or absent: writers build
beside it and rename.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipespec.ops.errors import ModelError

CACHE_VARIABLE = "PIPESPEC_CACHE"
CONVERSION = "v1"
"""Counts the conversion's output format: a folder of another version is never read."""


def cache_root() -> Path:
    """The cache folder, ``~/.cache/pipespec`` unless ``PIPESPEC_CACHE`` names another; it may not exist yet."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "pipespec"


def converted_root() -> Path:
    """Parent of all converted models of this conversion version."""
    return cache_root() / "converted" / CONVERSION


@contextmanager
def build_once(folder: Path) -> Iterator[Path | None]:
    """Build ``folder`` atomically, by one process at a time.

    Yields an empty scratch folder on the same file system; when the block ends without an error it becomes
    ``folder``. Yields None when another process (or an earlier run) has already built it. What a killed run left is
    removed first, so a broken half never counts.

    Raises:
        ModelError: the cache folder cannot be written.
    """
    from filelock import FileLock  # noqa: PLC0415 - only the stage and gateway extras bring it

    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parent / f".{folder.name}.lock")
        lock.acquire()
    except OSError as error:
        raise ModelError(
            f"cannot write the cache folder {parent}: {error.strerror}; set {CACHE_VARIABLE} to a writable folder"
        ) from error
    try:
        if folder.is_dir():
            yield None
            return
        yield from _build(folder)
    finally:
        lock.release()


def _build(folder: Path) -> Iterator[Path]:
    prefix = f".{folder.name}.partial-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
