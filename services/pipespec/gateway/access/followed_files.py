"""Files that are read again when they change: keys and certificates, which are replaced while the gateway runs.

Looked at every few seconds, by content, because a mounted Secret changes by a switched link. What cannot be used changes
nothing: the gateway goes on with what it has, and says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import structlog
from prometheus_client import Counter

from pipespec.ops.errors import SettingsError

EVERY_S = 2.0

_RELOADS = Counter(
    "pipespec_gateway_reloads_total",
    "Changed files that were read again, by what they are and whether they could be used",
    ["what", "outcome"],
)
_log = structlog.get_logger(__name__)


class FollowedFiles:
    """Loads once when it is made, and again after each change while ``follow`` runs.

    Args:
        what: they are, for the log.
        paths: of the files.
        load: reads and takes them over; called in the event loop's thread.

    Raises:
        SettingsError: they cannot be used to begin with.
    """

    def __init__(self, what: str, paths: Sequence[Path], *, load: Callable[[], None]) -> None:
        self._what = what
        self._paths = paths
        self._load = load
        # Before they are read, so that a change in between is seen as one.
        self._seen = _content(paths)
        load()

    async def follow(self, *, every_s: float = EVERY_S) -> NoReturn:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            content = await asyncio.to_thread(_content, self._paths)
            if content != self._seen:
                self._seen = content
                self._reload()

    def _reload(self) -> None:
        try:
            self._load()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with new files, the gateway serves with the old ones
            _RELOADS.labels(self._what, "unusable").inc()
            _log.error("gateway.reload_failed", what=self._what, error=_said(error), now="the old ones count")
        else:
            _RELOADS.labels(self._what, "ok").inc()
            _log.info("gateway.reloaded", what=self._what)


def _said(error: Exception) -> str:
    # Only our own messages show nothing of what the files hold.
    return str(error) if isinstance(error, SettingsError) else type(error).__name__


def _content(paths: Sequence[Path]) -> tuple[bytes | None, ...]:
    return tuple(_digest(path) for path in paths)


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
