"""Numbers about requests, for Prometheus: how many ended how, and how long the first token took."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram

_REQUESTS = Counter(
    "pipespec_gateway_requests_total",
    "Requests by how they ended: ok, abandoned (the client went away) or an error code",
    ["protocol", "outcome"],
)
_TOKENS = Counter("pipespec_gateway_tokens_total", "Tokens delivered to clients", ["protocol"])
_FIRST_TOKEN = Histogram(
    "pipespec_gateway_first_token_seconds",
    "From the arrival of a request to its first token",
    ["protocol"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class RequestRecord:
    """What is known of one request; starts when it arrives."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._arrived = time.monotonic()
        self._has_token = False
        self._ended = False

    def tokens(self, count: int) -> None:
        """``count`` tokens go to the client."""
        _TOKENS.labels(self._protocol).inc(count)
        if not self._has_token:
            self._has_token = True
            _FIRST_TOKEN.labels(self._protocol).observe(time.monotonic() - self._arrived)

    def end(self, outcome: str) -> None:
        """The request is over; only the first call counts."""
        if not self._ended:
            self._ended = True
            _REQUESTS.labels(self._protocol, outcome).inc()
