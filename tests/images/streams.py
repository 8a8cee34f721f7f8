"""Streams of text from a gateway, over each of its three protocols."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import httpx

from pipespec.client import AsyncClient

TIMEOUT_S = 240.0
Ask = Callable[[str, int], Coroutine[None, None, str]]
"""From a prompt and a number of tokens to a text; greedy, and as long as asked for."""


def over_http(url: str, model: str) -> Ask:
    """OpenAI's API, as server-sent events."""

    async def ask(prompt: str, max_tokens: int) -> str:
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}
        pieces: list[str] = []
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S) as http,
            http.stream("POST", f"{url}/v1/completions", json=body) as answer,
        ):
            if answer.is_error:
                raise AssertionError(f"{answer.status_code}: {(await answer.aread()).decode()}")
            async for line in answer.aiter_lines():
                event = line.removeprefix("data: ")
                if event in ("", "[DONE]"):
                    continue
                document = json.loads(event)
                if "error" in document:
                    raise AssertionError(document["error"])
                pieces += [choice["text"] for choice in document["choices"]]
        return "".join(pieces)

    return ask


def over_client(url: str) -> Ask:
    """gRPC or ZeroMQ, by our client; a connection for each request."""

    async def ask(prompt: str, max_tokens: int) -> str:
        async with AsyncClient(url) as client:
            completion = await client.generate(
                prompt, max_tokens=max_tokens, temperature=0, timeout_s=TIMEOUT_S
            )
        return completion.text

    return ask


@dataclass
class Load:
    """Asks one prompt after another, several at once, until it is told to stop.

    Attributes:
        asks: one client each.
        max_tokens: of each text.
        texts: by prompt. No prompt is asked twice.
    """

    asks: dict[str, Ask]
    max_tokens: int
    texts: dict[str, str] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _is_over: bool = False

    async def __aenter__(self) -> Load:
        """Begin."""
        for name, ask in self.asks.items():
            self._tasks.append(asyncio.create_task(self._keep_asking(name, ask)))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let every stream come to its end; the first failure is raised."""
        self._is_over = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def advance(self, num_texts: int) -> None:
        """Wait for so many more texts; see ``until``."""
        wanted = len(self.texts) + num_texts
        await self.until(lambda: len(self.texts) >= wanted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait while the streams go on.

        Raises:
            TimeoutError: it does not come true; whatever a stream failed with is raised as it is.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while not await asyncio.to_thread(condition):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.1)

    async def _keep_asking(self, name: str, ask: Ask) -> None:
        turn = 0
        while not self._is_over:
            prompt = f"{name}, turn {turn}"
            self.texts[prompt] = await ask(prompt, self.max_tokens)
            turn += 1
