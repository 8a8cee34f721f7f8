"""Ports of a local pipeline: free ones where 0 was asked for, checked ones where a number was.

Services under ``pipespec up`` get a pipeline file without zeros, so that all of them know all addresses.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from pipespec.ops.errors import PipespecError, SettingsError


class PortInUse(PipespecError):
    """A port that was asked for is taken; the message says which setting to change."""


class PortPicker:
    """Hands out ports inside its ``with`` block; all are held until its end, so none is given twice."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Begin to hold ports."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them go, for the services to bind."""
        self._held.close()

    def take(self, host: str, port: int, setting: str, option: str = "") -> int:
        """A free port, or ``port`` itself when it is not 0 and free.

        Args:
            host: address that will bind it.
            port: 0 for any.
            setting: what decides it, such as ``gateway.http_port``.
            option: the command line's name for it, if there is one.

        Raises:
            PortInUse: something else has it.
            SettingsError: this machine has no such address.
        """
        try:
            listener = self._held.enter_context(socket.create_server((host, port), family=_family(host)))
        except OSError as error:
            if port == 0 or error.errno != errno.EADDRINUSE:
                raise SettingsError(f"{setting}: cannot bind {host} port {port}: {error.strerror}") from error
            way = f"{option} or {setting}" if option else setting
            raise PortInUse(
                f"port {port} on {host} is in use; set another with {way} (0 takes a free one)"
            ) from error
        taken: int = listener.getsockname()[1]
        return taken


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
