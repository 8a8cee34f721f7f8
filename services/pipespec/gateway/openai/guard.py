"""Lets nobody in by HTTP without a key, where the gateway has keys.

Pure ASGI, between the border and the routes: whatever path is asked for, in whatever spelling, the key comes first. Only
the two probes are open, and only where routing will see exactly their paths.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipespec.gateway.access import KeyRing
from pipespec.gateway.openai.errors import error_response
from pipespec.ops.errors import RequestError

OPEN_PATHS = ("/livez", "/readyz")


class Guard:
    """Wraps an application; puts ``principal`` into the request's state.

    Args:
        app: behind it.
        keys: None lets everybody in; ``principal`` is None then.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing | None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["state"]["principal"] = None
        if self._keys is not None and scope["path"] not in OPEN_PATHS:
            header = Headers(scope=scope).get("authorization")
            try:
                scope["state"]["principal"] = self._keys.authenticate(header, protocol="openai")
            except RequestError as refusal:
                response = error_response(refusal, request_id=scope["state"]["request_id"])
                # RFC 6750, section 3: why is said only to who has shown a key.
                why = "" if header is None else ', error="invalid_token"'
                response.headers["www-authenticate"] = f'Bearer realm="pipespec"{why}'
                if not _has_body(scope):
                    response.headers["connection"] = "close"  # strangers keep no connection
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    """Whether more is on its way: to close then would reset the connection before the client has read why."""
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
