"""Our services as processes: broker, suffix draft, target and gateway, asked through the client. Runs in a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from pipespec.cli import progress
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.client import AsyncClient, StageReport
from pipespec.ops.pipeline import GatewaySettings, LogSettings, Pipeline, StageKind, StageSettings

from .driver import target_settings
from .setup import Setup
from .workload import Report, Run, Workload, warm_then_run

LOOKAHEAD = 16
"""Of the suffix draft, as in ``pipespec demo``."""
TIMEOUT_S = 3600.0


def served(setup: Setup, workload: Workload, report: Report, *, speculate: bool) -> Run:
    """All sessions at once through a gateway; without ``speculate`` the target works alone."""
    progress.stderr.quiet = True  # the parent shows what is going on
    with temporary_pipeline(pipeline_of(setup)) as pipeline:
        url = grpc_url(pipeline)
        return warm_then_run(
            lambda load, tell: asyncio.run(_serve(url, load, tell, speculate=speculate)), workload, report
        )


def pipeline_of(setup: Setup) -> Pipeline:
    """A suffix draft before the model."""
    return Pipeline(
        stages=(StageSettings(kind=StageKind.SUFFIX, lookahead=LOOKAHEAD), target_settings(setup)),
        gateway=GatewaySettings(request_timeout_s=TIMEOUT_S),
        log=LogSettings(level="warning"),
    )


async def _serve(url: str, workload: Workload, report: Report, *, speculate: bool) -> Run:
    arrived = 0

    def on_tokens(number: int) -> None:
        nonlocal arrived
        arrived += number
        report(arrived / (workload.max_tokens * len(workload.prompts)))

    async def ask(
        client: AsyncClient, prompt: Sequence[int]
    ) -> tuple[tuple[int, ...], float, tuple[StageReport, ...]]:
        first_s = None
        stream = client.stream(
            token_ids=prompt,
            max_tokens=workload.max_tokens,
            temperature=0.0,
            speculate=speculate,
            ignore_eos=not workload.stop_ids,
            include_stats=True,
        )
        async with stream:
            async for chunk in stream:
                if chunk.token_ids:
                    first_s = first_s or time.perf_counter() - started_s
                    on_tokens(len(chunk.token_ids))
            done = stream.completion
        return done.token_ids, first_s or time.perf_counter() - started_s, done.stats

    client = AsyncClient(url)
    try:
        started_s = time.perf_counter()
        answers = await asyncio.gather(*(ask(client, prompt) for prompt in workload.prompts))
        elapsed_s = time.perf_counter() - started_s
    finally:
        await client.close()
    outputs, first_s, stats = zip(*answers, strict=True)
    return Run(outputs, first_s, elapsed_s, notes(stats))


def notes(stats: Sequence[Sequence[StageReport]]) -> dict[str, float]:
    """What the target did for all sessions; empty when a stage did not report."""
    if not all(stats):
        return {}
    targets = [reports[-1] for reports in stats]
    checked, accepted = sum(one.checked for one in targets), sum(one.accepted for one in targets)
    steps = sum(one.steps - one.prefill_steps for one in targets)
    return {
        "checked": checked,
        "accepted": accepted,
        "tokens_per_target_step": sum(one.tokens for one in targets) / steps if steps else 0.0,
    }
