"""All that decides who gets in, as the settings say it: keys and certificate, kept in step with their files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from pipespec.gateway.access.certificate import Certificate
from pipespec.gateway.access.followed_files import FollowedFiles
from pipespec.gateway.access.key_file import load_key_file
from pipespec.gateway.access.key_ring import KeyRing
from pipespec.ops.edge_security import EdgeSecuritySettings


@dataclass(frozen=True, slots=True)
class Access:
    """What the edges ask.

    Attributes:
        keys: that count; None lets everybody in.
        certificate: None serves in plain.
    """

    keys: KeyRing | None
    certificate: Certificate | None
    _files: tuple[FollowedFiles, ...]

    @classmethod
    def of(cls, settings: EdgeSecuritySettings) -> Self:
        """Load what ``settings`` name.

        Raises:
            SettingsError: a file cannot be read or used.
        """
        files = []
        keys = certificate = None
        if settings.api_keys is not None:
            path = settings.api_keys
            ring = keys = KeyRing(load_key_file(path))
            files.append(FollowedFiles("api-keys", [path], load=lambda: ring.replace(load_key_file(path))))
        if settings.tls_certificate is not None and settings.tls_key is not None:
            certificate = Certificate(settings.tls_certificate, settings.tls_key)
            paths = [settings.tls_certificate, settings.tls_key]
            files.append(FollowedFiles("certificate", paths, load=certificate.load))
        return cls(keys, certificate, tuple(files))

    async def follow(self) -> None:
        """Take over changed files; never returns by itself."""
        async with asyncio.TaskGroup() as group:
            for files in self._files:
                group.create_task(files.follow())
            await asyncio.Event().wait()
