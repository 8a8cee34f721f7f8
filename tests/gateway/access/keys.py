"""Keys and certificates that tests use."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipespec.gateway.access import KeyRing
from pipespec.gateway.access.key_file import digest_of, parse_key_file

CERTIFICATES = Path(__file__).parent / "certificates"
CA = CERTIFICATES / "ca.crt"
ALICE = "ps-alice-0123456789abc"
ALICE_NEW = "ps-alice-9876543210abc"
BOB = "ps-bob-0123456789abc"
CAROL = "ps-carol-0123456789abc"
EVERYBODY: list[dict[str, Any]] = [
    {"name": "alice", "keys": [{"sha256": digest_of(ALICE).hex()}, {"sha256": digest_of(ALICE_NEW).hex()}]},
    {"name": "bob", "models": ["small"], "max_requests": 1, "keys": [{"plain": BOB}]},
    {"name": "carol", "models": ["other"], "keys": [{"sha256": digest_of(CAROL).hex()}]},
]


def copy_for_owner(source: Path, to: Path) -> None:
    """Copy a file of the repository, which all can read, to where it is a secret."""
    shutil.copyfile(source, to)
    to.chmod(0o600)


def lay_certificate(name: str, folder: Path) -> tuple[Path, Path]:
    """The chain and the key of that name, as ``tls.crt`` and ``tls.key`` of the folder, in place of those that are there."""
    chain, key = folder / "tls.crt", folder / "tls.key"
    copy_for_owner(CERTIFICATES / f"{name}.crt", chain)
    copy_for_owner(CERTIFICATES / f"{name}.key", key)
    return chain, key


def key_ring(principals: list[dict[str, Any]] | None = None, **options: Any) -> KeyRing:
    """A ring of these, or of everybody."""
    return KeyRing(parse_key_file({"principals": principals or EVERYBODY}, source="test"), **options)


def bearer(key: str) -> dict[str, str]:
    """Header of HTTP."""
    return {"Authorization": f"Bearer {key}"}


def trusting(maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """A client that trusts the tests' authority and speaks any version up to ``maximum``."""
    context = ssl.create_default_context(cafile=CA)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = maximum
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


async def check_tls_1_2_is_the_least(
    port: int, client: Callable[[ssl.TLSVersion], ssl.SSLContext] = trusting
) -> None:
    """A server on this machine refuses a client of at most TLS 1.1, by its own word, and takes one of 1.2."""
    with pytest.raises((ConnectionError, ssl.SSLError)) as caught:
        await common_name(port, client(ssl.TLSVersion.TLSv1_1))
    assert isinstance(caught.value, ConnectionError) or "ALERT" in str(caught.value), (
        "it is the server's word"
    )
    assert await common_name(port, client(ssl.TLSVersion.TLSv1_2)) == "first"


async def common_name(port: int, context: ssl.SSLContext) -> str:
    """Of the certificate that a new connection to this machine is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("peercert")
    writer.transport.abort()
    return str(shown["subject"][0][0][1])
