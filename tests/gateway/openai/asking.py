"""How these tests ask over raw HTTP, and what every error body looks like."""

from __future__ import annotations

import json
from typing import Any

import httpx

ASK = {"model": "small", "prompt": "hello"}
CHAT = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}


async def post(http: httpx.AsyncClient, body: Any, path: str = "/v1/completions") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await http.post(path, content=content, headers={"content-type": "application/json"})


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    return dict(body["error"])
