"""Tells by its key who asks.

Every key is compared, each in constant time, so that how long a refusal takes says nothing about the keys there are. Keys
are held as digests only and never logged. The event loop owns the ring; a new file replaces all keys at once, and what
runs under old ones runs to its end.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter

from pipespec.gateway.access.key_file import KeyEntry, KeyFile, PrincipalEntry, digest_of
from pipespec.gateway.access.principal import Principal
from pipespec.ops.errors import RequestError

MAX_HEADER = 1024
"""Characters of ``authorization`` that are looked at."""

_REFUSED = Counter(
    "pipespec_gateway_unauthorized_total", "Requests without a key that counts, by protocol", ["protocol"]
)


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    expires: float | None
    principal: Principal


class KeyRing:
    """The keys that count.

    Args:
        file: what it begins with.
        clock: seconds since the epoch, for keys that expire.
    """

    def __init__(
        self,
        file: KeyFile,
        *,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - keys expire at a date
    ) -> None:
        self._clock = clock
        self._keys: list[_Key] = []
        self.replace(file)

    def replace(self, file: KeyFile) -> None:
        """From now on count these keys; who stays keeps what it has running."""
        earlier = {key.principal.name: key.principal for key in self._keys}
        keys: list[_Key] = []
        for entry in file.principals:
            principal = _principal(entry)
            if entry.name in earlier:
                principal.succeed(earlier[entry.name])
            keys += [_key(key, principal) for key in entry.keys]
        self._keys = keys

    def named(self, name: str, *, protocol: str) -> Principal:
        """The principal of this name, for one who has proved it by other means.

        Raises:
            RequestError: ``invalid_api_key``: the file has none.
        """
        for key in self._keys:
            if key.principal.name == name:
                return key.principal
        _REFUSED.labels(protocol).inc()
        raise _refused(f"the API keys have nobody named {name!r}, as the CURVE key is")

    def authenticate(self, authorization: str | None, *, protocol: str) -> Principal:
        """Who sent this ``authorization``.

        Args:
            authorization: ``Bearer KEY``, as of RFC 6750; None where there is none.
            protocol: that it came by, for metrics.

        Raises:
            RequestError: ``invalid_api_key``.
        """
        try:
            return self._find(authorization)
        except RequestError:
            _REFUSED.labels(protocol).inc()
            raise

    def _find(self, authorization: str | None) -> Principal:
        scheme, _, secret = (authorization or "")[:MAX_HEADER].partition(" ")
        if scheme.lower() != "bearer":
            raise _refused("an API key is needed: send 'Authorization: Bearer KEY'")
        digest = digest_of(secret.strip())
        found: _Key | None = None
        for key in self._keys:  # all of them, whichever it is
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise _refused("this API key is not known")
        if found.expires is not None and self._clock() >= found.expires:
            raise _refused("this API key has expired")
        return found.principal


def _key(entry: KeyEntry, principal: Principal) -> _Key:
    return _Key(entry.digest, None if entry.expires is None else entry.expires.timestamp(), principal)


def _principal(entry: PrincipalEntry) -> Principal:
    models = None if entry.models is None else frozenset(entry.models)
    return Principal(entry.name, models=models, max_requests=entry.max_requests)


def _refused(message: str) -> RequestError:
    return RequestError(message, code="invalid_api_key")
