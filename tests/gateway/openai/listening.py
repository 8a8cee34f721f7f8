"""A client of resumable streams over raw HTTP, which may leave at any event, and gateways for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from gateway.resume.fellows import MemoryBus, keeping
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings

RESUMABLE = {"stream": True, "resumable": True, "return_token_ids": True}
SAID = "Hello 👍🏽 world!"


@dataclass
class Heard:
    """What came over one connection."""

    status: int = 0
    stream: str = ""
    ids: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    is_done: bool = False

    @property
    def text(self) -> str:
        return "".join(event["choices"][0].get("text", "") for event in self.events if event["choices"])

    @property
    def token_ids(self) -> list[int]:
        return [
            token
            for event in self.events
            for choice in event["choices"]
            for token in choice.get("token_ids", [])
        ]

    @property
    def sequence(self) -> list[int]:
        return [int(id_.rpartition(".")[2]) for id_ in self.ids]


async def hear(response: httpx.Response, *, events: int | None = None) -> Heard:
    """All that comes, or the first so many events and then no more: the connection is closed by the caller."""
    heard = Heard(response.status_code, response.headers.get("x-pipespec-stream", ""))
    is_error = False
    async for line in response.aiter_lines():
        match line.partition(": "):
            case ("id", _, id_):
                heard.ids.append(id_)
            case ("event", _, "error"):
                is_error = True
            case ("data", _, "[DONE]"):
                heard.is_done = True
            case ("data", _, content) if is_error:
                heard.error = json.loads(content)["error"]
            case ("data", _, content):
                heard.events.append(json.loads(content))
        if len(heard.events) == events:
            break
    return heard


@asynccontextmanager
async def started(
    http: httpx.AsyncClient, body: Any, path: str = "/v1/completions"
) -> AsyncIterator[httpx.Response]:
    async with http.stream("POST", path, json=body) as response:
        yield response


@asynccontextmanager
async def resumed(
    http: httpx.AsyncClient, stream: str, last: str | None = None
) -> AsyncIterator[httpx.Response]:
    headers = {} if last is None else {"last-event-id": last}
    async with http.stream("GET", f"/v1/streams/{stream}", headers=headers) as response:
        yield response


def plain(heard: Heard) -> list[Any]:
    """The events without what differs from one answer to the next."""
    return [{**event, "id": "", "created": 0} for event in heard.events]


@asynccontextmanager
async def gateway(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, replica: str, bus: MemoryBus
) -> AsyncIterator[tuple[httpx.AsyncClient, ResumeService]]:
    async with keeping(settings, replica, bus) as service:
        app = create_app(backend=backend, text=text, settings=settings, model_name="small", resume=service)
        server = await serve_http(app, "127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
            yield http, service
        await server.stop(grace_s=0)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
