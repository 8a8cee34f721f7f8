"""Sessions at once against a gateway, and when their tokens arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from pipespec.client import AsyncClient
from pipespec.planner.arrivals import Arrivals, LoadResult


def run_load(
    url: str,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    speculate: bool = True,
    on_token: Callable[[int], None] = lambda _: None,
) -> LoadResult:
    """Send all prompts at once and read every stream to its end.

    Args:
        url: of the gateway, as in ``AsyncClient``.
        prompts: token ids.
        max_tokens: to generate, exactly: stop ids are ignored.
        speculate: False leaves the drafts out.
        on_token: told how many tokens came.

    Raises:
        RequestError: a session failed; the load counts only as a whole.
    """
    return asyncio.run(_run(url, prompts, max_tokens, speculate=speculate, on_token=on_token))


async def _run(
    url: str,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    *,
    speculate: bool,
    on_token: Callable[[int], None],
) -> LoadResult:
    async with AsyncClient(url) as client:
        await client.generate(token_ids=[1], max_tokens=1)  # connects, and is not timed
        began_s = time.perf_counter()

        async def one(prompt: Sequence[int]) -> Arrivals:
            tokens: list[int] = []
            at_s: list[float] = []
            stream = client.stream(
                token_ids=prompt, max_tokens=max_tokens, temperature=0.0, ignore_eos=True, speculate=speculate
            )
            async with stream:
                async for chunk in stream:
                    tokens.extend(chunk.token_ids)
                    at_s.extend([time.perf_counter() - began_s] * len(chunk.token_ids))
                    on_token(len(chunk.token_ids))
            return Arrivals(tuple(tokens), tuple(at_s))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(prompt)) for prompt in prompts]
        sessions = tuple(task.result() for task in tasks)
    return LoadResult(sessions, total_s=max(one.at_s[-1] for one in sessions))
