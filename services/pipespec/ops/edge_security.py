"""Who may come in by HTTP and gRPC, and how: the part of the gateway's settings that keeps strangers out.

No secret is in the pipeline file, only the names of files that hold them. Without keys the gateway is for this machine
alone; to be open to others it has to be told so in a word of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipespec.ops.bus_security import is_loopback
from pipespec.ops.settings import Settings


class EdgeSecuritySettings(Settings):
    """Keys, certificate and limits of the client edges; ``GatewaySettings`` has the rest."""

    host: str = "127.0.0.1"
    """Address that all client ports bind; loopback unless said otherwise."""
    api_keys: Path | None = None
    """File with those who may use HTTP and gRPC, and their keys; ``pipespec api-keys`` writes it. A changed file counts
    within seconds; one with plain keys that others can read is refused. None: no key is asked for, so that ``host`` has to be loopback, or ``insecure`` set."""
    insecure: bool = False
    """HTTP and gRPC are open to whoever reaches ``host``, without a key."""
    tls_certificate: Path | None = None
    """Certificate chain (PEM) for HTTP and gRPC; a changed file counts for new connections. None: no TLS."""
    tls_key: Path | None = None
    """Private key (PEM, not encrypted) of the certificate; a file that others can read is refused."""
    grpc_max_streams: int | None = Field(default=None, ge=1, le=100_000)
    """Calls that one gRPC connection carries at once; more are refused. None: as many as there may be sessions, because a
    client library puts all calls of a process on one connection, but at least 256. Fewer mean that a client that floods
    its connection holds up the others for a shorter time."""

    @property
    def has_tls(self) -> bool:
        """Whether HTTP and gRPC are encrypted."""
        return self.tls_certificate is not None

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            given, missing = ("tls_key", "tls_certificate")
            if self.tls_key is None:
                given, missing = missing, given
            raise ValueError(f"'{given}' is given without '{missing}'; TLS needs both")
        return self

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> Self:
        if self.api_keys is not None and self.insecure:
            raise ValueError("'api_keys' and 'insecure' are both given; remove one of them")
        if self.api_keys is None and not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"'host' is {self.host}, not loopback, and no key is asked for: whoever reaches it could use the gateway; "
                "make keys with `pipespec api-keys new FILE NAME` and set 'api_keys' to FILE, or set 'insecure' to true"
            )
        return self
