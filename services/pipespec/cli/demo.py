"""``pipespec demo``: the promise of the whole thing, shown once.

A chain answers, its target alone answers the same, and both are compared token by token before any speed is claimed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipespec.cli.generate import discard, write
from pipespec.cli.local.document import read_pipeline
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.measured import Measured, measure
from pipespec.cli.progress import stderr
from pipespec.cli.summary import show_summary
from pipespec.client import Client
from pipespec.ops.errors import InvariantBroken

PROMPT = """\
Repeat the following diary, then continue it with two more days:

Day 1: We walked from the harbour to the old town.
Day 2: We took the train to the mountains and walked to the lake.
Day 3: It rained all day, so we read books in the hut.
Day 4: We climbed to the summit and saw the sea.
Day 5: We took the train back to the harbour.
"""
"""Its answer repeats much of it, so that drafts from the session's own text pay."""
WARM_UP_TOKENS = 4
"""The first request pays for what is set up lazily; it is not measured."""


@click.command()
@click.argument("prompt", default=PROMPT)
@click.option("--max-tokens", default=192, show_default=True, help="Tokens to generate at most.")
@click.option("--temperature", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", default=0, show_default=True, help="Of the noise, above temperature 0.")
@click.option("--pipeline", type=click.Path(path_type=Path), help="A pipeline file instead of the default.")
def demo(prompt: str, *, max_tokens: int, temperature: float, seed: int, pipeline: Path | None) -> None:
    """Answer PROMPT with a chain, ask its target alone for the same (not shown), and compare the token ids."""
    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "include_stats": True}
    with temporary_pipeline(read_pipeline(pipeline)) as resolved, Client(grpc_url(resolved)) as client:
        _answer(client, prompt, {**options, "max_tokens": WARM_UP_TOKENS}, shown=False)
        stderr.rule(f"{resolved.model_name}: the chain")
        chain = _answer(client, prompt, options, shown=True)
        stderr.rule("the target alone: compared, not shown")
        alone = _answer(client, prompt, {**options, "speculate": False}, shown=False)
    check_identical(chain, alone)
    show_summary(chain, alone)


def _answer(client: Client, prompt: str, options: dict[str, Any], *, shown: bool) -> Measured:
    messages = [{"role": "user", "content": prompt}]
    measured = measure(
        lambda: client.stream(messages=messages, **options),
        on_text=write if shown else discard,
    )
    if shown:
        click.echo()
    return measured


def check_identical(chain: Measured, alone: Measured) -> None:
    """Raise what makes the demo fail loudly when the promise is broken."""
    ours, theirs = chain.completion.token_ids, alone.completion.token_ids
    if ours == theirs:
        stderr.print(f"all {len(ours)} token ids are identical", style="green")
        return
    pairs = zip(ours, theirs, strict=False)
    fork = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    raise InvariantBroken(
        f"the chain and the target alone differ from token {fork} on: "
        f"{ours[fork : fork + 8]} and {theirs[fork : fork + 8]}; this must never happen, please report it"
    )
