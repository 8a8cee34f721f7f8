"""Who may speak on the bus and at the ZeroMQ edge, and which addresses ports may bind: the settings and their rules.

Key material is never in the pipeline file: it names folders, made by ``pipespec keys``. Outside loopback keys are
required, and an address that stands for all of the machine's needs a word of its own; every refusal says what to do.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from pipespec.ops.settings import Settings

MAX_BROKERS = 4
"""Of one pipeline."""


class BusSettings(Settings):
    """CURVE keys of the bus; see ``docs/keys.md``. With neither folder the bus is in plain, on loopback only."""

    server_keys: Path | None = None
    """Folder with the brokers' secret keys and the public keys of those who may connect; brokers read it."""
    client_keys: Path | None = None
    """Folder with the secret key of this deployment and the brokers' public keys; everyone but the brokers reads it."""
    insecure: bool = False
    """Speaks in plain outside loopback, to anybody; for networks that nobody else is on."""

    @property
    def has_keys(self) -> bool:
        """Whether the bus is encrypted."""
        return self.server_keys is not None and self.client_keys is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. Names are not looked up: all but ``localhost`` count as outside."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether binding it means every address of the machine, in any of the spellings that systems take for that."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "*") or _is_short_zero(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_unspecified or (mapped is not None and mapped.is_unspecified)


def _is_short_zero(host: str) -> bool:
    """``0``, ``0.0`` and ``0x0`` are 0.0.0.0 to the system's own parser."""
    try:
        return not any(socket.inet_aton(host))
    except OSError:
        return False


def check_bus(bus: BusSettings, *, hosts: Iterable[str]) -> None:
    """Refuse half a set of keys, and a bus outside loopback without keys.

    Args:
        bus: the settings.
        hosts: all that brokers bind or are found at.

    Raises:
        ValueError: says what to do.
    """
    if (bus.server_keys is None) != (bus.client_keys is None):
        missing = "server_keys" if bus.server_keys is None else "client_keys"
        raise ValueError(
            f"bus.{missing} is missing: brokers read bus.server_keys, all others bus.client_keys; "
            "`pipespec keys new FOLDER` makes both"
        )
    if bus.has_keys and bus.insecure:
        raise ValueError("bus has keys and is 'insecure'; remove one of them")
    if bus.has_keys or bus.insecure:
        return
    for host in hosts:
        if not is_loopback(host):
            raise ValueError(
                f"brokers: {host} is not loopback, so whoever reaches it could read and steer the bus; make keys with "
                "`pipespec keys new FOLDER` and set bus.server_keys and bus.client_keys to what it says, or set "
                "bus.insecure to true"
            )


def check_zmq_edge(host: str, *, keys: Path | None, insecure: bool, api_keys: Path | None) -> None:
    """Refuse a ZeroMQ edge without keys outside loopback, and beside HTTP and gRPC that ask for keys.

    Raises:
        ValueError: says what to do.
    """
    if keys is not None and insecure:
        raise ValueError("gateway has 'zmq_keys' and is 'zmq_insecure'; remove one of them")
    if keys is not None or insecure or (api_keys is None and is_loopback(host)):
        return
    why = f"gateway.host is {host}, not loopback," if api_keys is None else "gateway.api_keys is set,"
    raise ValueError(
        f"{why} and ZeroMQ clients would need no key; make keys with `pipespec keys new FOLDER --servers 1` and set "
        "gateway.zmq_keys to FOLDER/server, or set gateway.zmq_insecure to true"
    )


def check_binds(hosts: Iterable[tuple[str, str]]) -> None:
    """Refuse addresses that stand for every address of the machine; ``hosts`` are pairs of setting and address.

    Raises:
        ValueError: says what to do.
    """
    for setting, host in hosts:
        if is_wildcard(host):
            raise ValueError(
                f"{setting} is {host}, every address of this machine; name one address, or set bind_any_address to true, "
                "as in a pod whose network is its own"
            )
