"""Sixty-four clients that never stop: every answer is compared with what the target alone would have said.

Over HTTP, gRPC and ZeroMQ in turn, greedy and sampled; some leave in the middle, and what they got until then must be right too.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random

import httpx

from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.ops.errors import RequestError
from pipespec.ops.pipeline import Pipeline

LEAVERS = 0.1
"""Share of requests whose client goes away before the end."""
_RETRY_S = 0.5
_BEGINNINGS = [[3 + number] * (64 * (number % 3)) for number in range(24)]
"""What prompts begin with, as they do with system prompts: else the gateway fills its memory of beginnings all the time."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``leave_after`` tokens its client goes away, if ever."""

    prompt: list[int]
    tokens: int
    temperature: float
    seed: int
    leave_after: int | None


@dataclass
class Clients:
    """All of them.

    Attributes:
        outcomes: requests by how they ended.
        wrong: requests whose tokens were not the target's; there must be none.
    """

    pipeline: Pipeline
    number: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def run(self, over: asyncio.Event) -> None:
        """One request after the other, each client for itself, until ``over``; then the last ones end."""
        gateway = self.pipeline.gateway
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.number)
        async with (
            httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as http,
            AsyncClient(f"grpc://127.0.0.1:{gateway.grpc_port}") as grpc,
            AsyncClient(f"zmq://127.0.0.1:{gateway.zmq_port}") as zmq,
            asyncio.TaskGroup() as group,
        ):
            for index in range(self.number):
                way = (http, grpc, zmq)[index % 3]
                group.create_task(self._client(way, Random(self.seed * 1000 + index), over))

    async def _client(
        self, way: httpx.AsyncClient | AsyncClient, random: Random, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            request = _random_request(random)
            try:
                await self._one(way, request)
            except (RequestError, httpx.HTTPError) as error:
                self.outcomes["error"] += 1
                self.errors[f"{type(error).__name__}: {getattr(error, 'code', error)}"] += 1
                await asyncio.sleep(_RETRY_S)

    async def _one(self, way: httpx.AsyncClient | AsyncClient, request: Request) -> None:
        got: list[int] = []
        pieces = self._http(way, request) if isinstance(way, httpx.AsyncClient) else _library(way, request)
        async with aclosing(pieces) as stream:
            async for ids in stream:
                got.extend(ids)
                self.tokens += len(ids)
                if request.leave_after is not None and len(got) >= request.leave_after:
                    break
        has_left = request.leave_after is not None and len(got) < request.tokens
        seed = request.seed if request.temperature else 0
        said = language_of(self.pipeline.stages).target_text(
            request.prompt, request.tokens, session_seed=seed
        )
        if got != (said[: len(got)] if has_left else said):
            self.wrong.append(f"{request}: {got} is not {said}")
        self.outcomes["left" if has_left else "complete"] += 1

    async def _http(self, http: httpx.AsyncClient, request: Request) -> AsyncGenerator[list[int]]:
        body = {
            "model": self.pipeline.model_name,
            "prompt": request.prompt,
            "max_tokens": request.tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        url = f"http://127.0.0.1:{self.pipeline.gateway.http_port}/v1/completions"
        async with http.stream("POST", url, json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise RequestError(response.text, code=response.json()["error"]["code"])
            last = ""
            async for line in response.aiter_lines():
                last = line or last
                if line.startswith('data: {"id"'):
                    yield json.loads(line[6:])["choices"][0].get("token_ids", [])
            if last != "data: [DONE]":
                raise RequestError(last, code="stream_error")


async def _library(client: AsyncClient, request: Request) -> AsyncGenerator[list[int]]:
    stream = client.stream(
        token_ids=request.prompt,
        max_tokens=request.tokens,
        temperature=request.temperature,
        seed=request.seed,
        ignore_eos=True,
    )
    async with stream:
        async for chunk in stream:
            yield list(chunk.token_ids)


def _random_request(random: Random) -> Request:
    tokens = random.randint(16, 160)
    return Request(
        prompt=[
            *random.choice(_BEGINNINGS),
            *(random.randrange(3, 200) for _ in range(random.randint(1, 60))),
        ],
        tokens=tokens,
        temperature=random.choice((0.0, 0.8)),
        seed=random.randrange(1, 2**32),
        leave_after=random.randint(1, tokens) if random.random() < LEAVERS else None,
    )
