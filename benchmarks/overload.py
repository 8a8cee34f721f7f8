"""Four times the load that a pipeline can take: what those who are served notice, how fast the others are sent away.

Emulated stages through the real services, on this machine, the clients too. First full load: as many clients as there are
sessions, each with one request after the other. Then requests arrive at random moments, four times as often as they were
served before, whatever becomes of them. Nobody tries again. Every answer is compared with the target's own words.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click
import httpx
import psutil
from comparison.machine import cpu_name, describe, slug
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.ops.errors import Overloaded, RequestError
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.arrivals import percentile

RESULTS = Path(__file__).parent / "results"
PROMPT = 16
SAMPLE_S = 0.5
FILL_S = 2.0
"""Until all places are taken and their first tokens have come; throughput is measured from then on, in both loads."""
PATIENT = {"heartbeat_ms": 200, "dead_ms": 20_000, "stall_ms": 60_000, "hung_ms": 60_000}

console = Console(width=max(Console().width, 120))


@dataclass
class Phase:
    """What one load showed; times in seconds."""

    name: str
    took_s: float = 0.0
    tokens: int = 0
    total_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    waited_in_vain_s: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """For people and for JSON."""
        return {
            "served": len(self.total_s),
            "requests_per_s": len(self.total_s) / self.took_s,
            "tokens_per_s": self.tokens / self.took_s,
            "total_ms": _spread(self.total_s),
            "first_token_ms": _spread(self.first_s),
            "refused": len(self.refused_s),
            "refusal_ms": _spread(self.refused_s),
            "queue_timeouts": len(self.waited_in_vain_s),
            "queue_timeout_ms": _spread(self.waited_in_vain_s),
            "retry_after_s": [min(self.retry_after_s, default=None), max(self.retry_after_s, default=None)],
            "gateway_rss_mib": [round(rss / 2**20, 1) for rss in (self.rss[0], max(self.rss), self.rss[-1])],
        }


def _spread(values: list[float]) -> list[float] | None:
    return [round(1e3 * percentile(values, share), 1) for share in (0.5, 0.99)] if values else None


def pipeline_for(sessions: int, step_ms: float) -> Pipeline:
    """A draft and a target; a step takes as long for all sessions as for one, so that places are what is scarce."""
    stage = {"kind": "emulated", "max_sessions": sessions, "max_batch": sessions}
    draft = {"latency_ms": {1: step_ms / 8}, "agreement": 0.8}
    document = {
        "name": "bench-overload",
        "stages": [
            {**stage, "lookahead": 6, "emulation": draft},
            {**stage, "emulation": {"latency_ms": {1: step_ms}}},
        ],
        "gateway": {"max_sessions": sessions},
        "timers": PATIENT,
    }
    return parse_pipeline(document, source="the benchmark's pipeline")


class Load:
    """Requests against one gateway."""

    def __init__(self, pipeline: Pipeline, ask: Ask, *, tokens: int) -> None:
        self._language = language_of(pipeline.stages)
        self._ask = ask
        self._tokens = tokens
        self._random = Random(1)
        (self._gateway,) = [p for p in psutil.Process().children(True) if "gateway" in p.cmdline()]

    async def one(self, phase: Phase) -> None:
        """One request, from its first byte to its last."""
        prompt = [self._random.randrange(3, 200) for _ in range(PROMPT)]
        began_s = time.perf_counter()
        tokens: list[int] = []
        first_s = 0.0
        try:
            async for ids in self._ask(prompt, self._tokens):
                first_s = first_s or time.perf_counter() - began_s
                tokens.extend(ids)
        except Overloaded as refusal:
            took_s = time.perf_counter() - began_s
            late = refusal.code == "queue_timeout"
            (phase.waited_in_vain_s if late else phase.refused_s).append(took_s)
            phase.retry_after_s.append(refusal.retry_after_s)
            return
        if tokens != self._language.target_text(prompt, self._tokens):
            raise AssertionError(f"not the target's words: {prompt} {tokens}")
        phase.total_s.append(time.perf_counter() - began_s)
        phase.first_s.append(first_s)

    @contextmanager
    def measured(self, phase: Phase) -> Iterator[None]:
        """Count what is generated in the meantime, of whichever request, and watch the gateway's memory."""
        sampler = asyncio.get_running_loop().create_task(self._sample(phase))
        began_s, before = time.perf_counter(), self.generated
        yield
        phase.took_s, phase.tokens = time.perf_counter() - began_s, self.generated - before
        sampler.cancel()
        phase.rss.append(self._gateway.memory_info().rss)

    generated = 0
    """Tokens that came, of all requests."""

    async def _sample(self, phase: Phase) -> None:
        while True:
            phase.rss.append(self._gateway.memory_info().rss)
            await asyncio.sleep(SAMPLE_S)


Ask = Callable[[list[int], int], Any]
"""Prompt and number of tokens; an asynchronous iterator of token ids."""


def over_http(pipeline: Pipeline, http: httpx.AsyncClient) -> Ask:
    """Server-sent events."""

    async def ask(prompt: list[int], tokens: int) -> Any:
        body = {
            "model": pipeline.model_name,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        url = f"http://127.0.0.1:{pipeline.gateway.http_port}/v1/completions"
        async with http.stream("POST", url, json=body) as response:
            if response.status_code == 429:
                error = json.loads(await response.aread())["error"]
                after_s = float(response.headers["retry-after"])
                raise Overloaded(error["message"], code=error["code"], retry_after_s=after_s)
            if response.status_code != 200:
                raise RequestError((await response.aread()).decode(), code=str(response.status_code))
            is_done = False
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    is_done = True
                elif line.startswith("data: "):
                    ids = (
                        [token for c in json.loads(line[6:])["choices"] for token in c["token_ids"]]
                        if "token_ids" in line
                        else []
                    )
                    Load.generated += len(ids)
                    yield ids
            if not is_done:
                raise RequestError("a stream was cut", code="cut")

    return ask


def over_library(client: AsyncClient) -> Ask:
    """GRPC or ZeroMQ."""

    async def ask(prompt: list[int], tokens: int) -> Any:
        async with client.stream(
            token_ids=prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True
        ) as stream:
            async for chunk in stream:
                Load.generated += len(chunk.token_ids)
                yield chunk.token_ids

    return ask


async def full_load(
    load: Load, phase: Phase, *, sessions: int, seconds: float, tick: Callable[[], None]
) -> None:
    """One request after the other, from as many clients as there are sessions."""
    until_s = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until_s:
            await load.one(phase)

    clients = [asyncio.create_task(client()) for _ in range(sessions)]
    await asyncio.sleep(FILL_S)
    with load.measured(phase):
        while time.perf_counter() < until_s:
            await asyncio.sleep(SAMPLE_S)
            tick()
    await asyncio.gather(*clients)


async def over_load(
    load: Load, phase: Phase, *, per_s: float, seconds: float, tick: Callable[[], None]
) -> None:
    """Requests at random moments, ``per_s`` of them in a second."""
    random = Random(2)
    requests: list[Awaitable[None]] = []
    loop = asyncio.get_running_loop()
    next_s = loop.time()

    async def arrive(until_s: float) -> None:
        nonlocal next_s
        while next_s < until_s:
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            requests.append(asyncio.create_task(load.one(phase)))
            next_s += random.expovariate(per_s)

    began_s = next_s + FILL_S
    await arrive(began_s)
    with load.measured(phase):
        for turn in range(1, int(seconds / SAMPLE_S) + 1):
            await arrive(began_s + turn * SAMPLE_S)
            tick()
    await asyncio.gather(*requests)


async def measure(
    pipeline: Pipeline, *, protocol: str, sessions: int, tokens: int, factor: float, seconds: float
) -> list[Phase]:
    """Full load, then ``factor`` times as much."""
    phases = [Phase("full load"), Phase(f"{factor:g} times that")]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=8 * sessions)
    port = {"grpc": pipeline.gateway.grpc_port, "zmq": pipeline.gateway.zmq_port}.get(protocol)
    async with (
        httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as http,
        AsyncClient(
            f"{protocol if port else 'grpc'}://127.0.0.1:{port or pipeline.gateway.grpc_port}"
        ) as client,
    ):
        load = Load(pipeline, over_library(client) if port else over_http(pipeline, http), tokens=tokens)
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("warming up", total=int(2 * seconds / SAMPLE_S))

            def tick() -> None:
                progress.advance(bar)

            await full_load(load, Phase("warm-up"), sessions=sessions, seconds=3.0, tick=lambda: None)
            progress.update(bar, description=phases[0].name)
            await full_load(load, phases[0], sessions=sessions, seconds=seconds, tick=tick)
            progress.update(bar, description=phases[1].name)
            per_s = factor * phases[0].tokens / phases[0].took_s / tokens
            await over_load(load, phases[1], per_s=per_s, seconds=seconds, tick=tick)
            progress.update(bar, completed=int(2 * seconds / SAMPLE_S))
    return phases


def verdicts(full: dict[str, Any], over: dict[str, Any]) -> dict[str, tuple[float, str, bool]]:
    """What is promised: figure, bound, whether it holds."""
    throughput = over["tokens_per_s"] / full["tokens_per_s"]
    slower = over["total_ms"][1] / full["total_ms"][1]
    refusal_ms = over["refusal_ms"][1] if over["refusal_ms"] else 0.0
    before, most, _ = over["gateway_rss_mib"]
    return {
        "throughput, share of full load's": (round(throughput, 3), ">= 0.95", throughput >= 0.95),
        "served requests' p99, times full load's": (round(slower, 2), "<= 1.5", slower <= 1.5),
        "refusal p99, ms": (refusal_ms, "<= 50", refusal_ms <= 50),
        "gateway's memory, MiB more than before": (round(most - before, 1), "<= 10", most - before <= 10),
    }


def show(phases: list[Phase], found: dict[str, tuple[float, str, bool]]) -> None:
    """Both tables."""
    table = Table(title="overload, emulated stages", title_justify="left")
    table.add_column("")
    for phase in phases:
        table.add_column(phase.name, justify="right")
    figures = [phase.figures() for phase in phases]
    for name in figures[0]:
        table.add_row(name.replace("_", " "), *(_text(figure[name]) for figure in figures))
    console.print(table)
    for name, (figure, bound, holds) in found.items():
        console.print(f"{'ok  ' if holds else 'FAIL'} {name}: {figure} ({bound})", highlight=False)


def _text(value: Any) -> str:
    if value is None or value == [None, None]:
        return "-"
    if isinstance(value, list):
        return " / ".join(f"{number:g}" for number in value)
    return f"{value:.1f}" if isinstance(value, float) else str(value)


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=60.0, type=click.FloatRange(5), help="Of each of the two loads.")
@click.option("--sessions", default=24, type=click.IntRange(4, 1000), help="Places.")
@click.option("--tokens", default=64, type=click.IntRange(2, 4096), help="Per request.")
@click.option("--factor", default=4.0, type=click.FloatRange(1), help="Offered load, in full loads.")
@click.option("--step-ms", default=100.0, type=click.FloatRange(1), help="Of the emulated target.")
@click.option(
    "--protocol", default="http", type=click.Choice(["http", "grpc", "zmq"]), help="Of the clients."
)
def main(*, seconds: float, sessions: int, tokens: int, factor: float, step_ms: float, protocol: str) -> None:
    """Measures what overload does to those who are served, and how the others are sent away."""
    options = {
        "seconds": seconds,
        "sessions": sessions,
        "tokens": tokens,
        "factor": factor,
        "step_ms": step_ms,
        "protocol": protocol,
    }
    with temporary_pipeline(pipeline_for(sessions, step_ms)) as pipeline:
        phases = asyncio.run(
            measure(
                pipeline, protocol=protocol, sessions=sessions, tokens=tokens, factor=factor, seconds=seconds
            )
        )
    figures = {phase.name: phase.figures() for phase in phases}
    found = verdicts(*figures.values())
    show(phases, found)
    document = {"machine": describe(cpu_name()), "options": options, "loads": figures, "verdicts": found}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"overload-{slug(cpu_name())}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(0 if all(holds for *_, holds in found.values()) else 1)


if __name__ == "__main__":
    main()
