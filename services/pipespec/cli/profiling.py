"""Asks a pipeline, hears its steps, and writes what they tell."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import yaml

from pipespec.bus.address import bus_client_keys
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.progress import progress_bar, stderr
from pipespec.client import Client
from pipespec.observer.measurement import Measurement
from pipespec.observer.observer import Observer
from pipespec.observer.profile import profile_document
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline

PROMPTS = (
    "Explain to a child why the sky is blue, in five sentences.",
    "Write a Python function that returns the n-th Fibonacci number, with a docstring and two examples.",
    "List the planets of the solar system with one fact about each.",
    "Rewrite this list with every item in capitals: apples, pears, plums, cherries, apricots, peaches, quinces.",
    (
        "Summarize: The town council met on Monday. It decided to repair the bridge, to plant forty trees along the river, "
        "and to open the library on Sundays. The repair of the bridge begins in May."
    ),
    "Continue this diary: Day 1: We walked to the harbour. Day 2: We took the train to the mountains. Day 3:",
)
"""Chat, code, lists, rewriting, a summary: of texts of all kinds, some are easy to guess."""
TOGETHER = 4
"""Sessions at once, for what a further session costs."""


def read_prompts(file: Path | None) -> list[str]:
    """Prompts of a file, one per line, or the built-in ones.

    Raises:
        SettingsError: the file holds none.
    """
    if file is None:
        return list(PROMPTS)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the prompts in {file}: {error}; expected UTF-8 text") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise SettingsError(f"{file} holds no prompt; expected one per line")
    return prompts


def measure(pipeline: Pipeline, prompts: Sequence[str], tokens: int) -> Measurement:
    """Ask every prompt with drafts, some without, and several at once; count all steps on the way."""
    measurement = Measurement()
    url = grpc_url(pipeline)
    alone = prompts[: max(1, len(prompts) // 3)]
    asks: list[Callable[[], None]] = [lambda p=p: _ask(url, p, tokens, speculate=True) for p in prompts]  # type: ignore[misc] # mypy does not infer lambdas with defaults
    asks += [lambda p=p: _ask(url, p, tokens, speculate=False) for p in alone]  # type: ignore[misc] # as above
    asks.append(lambda: _ask_together(url, list(islice(cycle(prompts), TOGETHER)), tokens))
    with (
        Observer(pipeline.brokers, keys=bus_client_keys(pipeline)) as observer,
        progress_bar() as on_progress,
    ):
        observer.wait_for_replicas(len(pipeline.stages))
        for number, ask in enumerate(asks):
            on_progress("measuring steps", number / len(asks))
            for heard in observer.listen_while(ask):
                measurement.add(heard.envelope.message)
        on_progress("measuring steps", 1.0)
        if observer.num_overflowed:
            stderr.print(f"{observer.num_overflowed} messages came too fast and are missing")
    return measurement


def _ask(url: str, prompt: str, tokens: int, *, speculate: bool) -> None:
    with Client(url) as client:
        message = {"role": "user", "content": prompt}
        client.generate(messages=[message], max_tokens=tokens, temperature=0.0, speculate=speculate)


def _ask_together(url: str, prompts: Sequence[str], tokens: int) -> None:
    with ThreadPoolExecutor(len(prompts)) as pool:
        for done in [pool.submit(_ask, url, prompt, tokens, speculate=True) for prompt in prompts]:
            done.result()


def write_profile(pipeline: Pipeline, measurement: Measurement, out: Path) -> None:
    """Write the profile, and say in a few lines what it holds.

    Raises:
        Unavailable: too few steps of a stage were heard of.
    """
    document = profile_document(pipeline, measurement)
    steps = ", ".join(str(stage.num_steps) for _, stage in sorted(measurement.stages.items()))
    today = datetime.datetime.now(tz=datetime.UTC)  # noqa: TID251 - for people
    head = (
        f"# Measured by `pipespec profile` on {today:%Y-%m-%d}, {platform.machine()}: "
        f"{steps} steps by stage.\n# `pipespec plan` reads it, `pipespec up` emulates it.\n"
    )
    body = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)
    out.write_text(head + body, encoding="utf-8")
    for stage in document["stages"]:
        emulation = stage["emulation"]
        agreement = f", agreement {emulation['agreement']:.3f}" if "agreement" in emulation else ""
        points = ", ".join(f"{tokens}: {ms:g}" for tokens, ms in list(emulation["latency_ms"].items())[:6])
        stderr.print(
            f"{emulation['stands_for']}: ms per step by tokens {{{points}}}{agreement}", markup=False
        )
    stderr.print(f"{out}: now `pipespec plan {out}`", markup=False)
