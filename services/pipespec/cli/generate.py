"""``pipespec generate``: one prompt, one answer, streamed to stdout."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipespec.cli.gateway_choice import chosen_client, gateway_options
from pipespec.cli.measured import Measured, measure
from pipespec.cli.sampling_options import sampling_options
from pipespec.client import Curve


@click.command()
@click.argument("prompt")
@sampling_options
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the text.")
@click.option("--no-speculation", is_flag=True, help="Let the target decode alone; the text is the same.")
@click.option("--no-resume", is_flag=True, help="Do not ask for a stream that survives a lost connection.")
@gateway_options
def generate(
    prompt: str,
    *,
    options: dict[str, Any],
    raw: bool,
    as_json: bool,
    no_speculation: bool,
    no_resume: bool,
    url: str | None,
    curve: Curve | None,
    api_key: str | None,
    ca: Path | None,
    name: str | None,
    pipeline: Path | None,
) -> None:
    """Answer PROMPT ("-" reads stdin).

    Uses the pipeline that `pipespec up` runs, or --url; else starts one just for this request.
    """
    if prompt == "-":
        prompt = sys.stdin.read().removesuffix("\n")
    text = {"prompt": prompt} if raw else {"messages": [{"role": "user", "content": prompt}]}
    with chosen_client(url=url, curve=curve, api_key=api_key, ca=ca, name=name, pipeline=pipeline) as client:
        measured = measure(
            lambda: client.stream(
                **text,
                **options,
                speculate=not no_speculation,
                include_stats=as_json,
                resumable=not no_resume,
            ),
            on_text=discard if as_json else write,
        )
    if as_json:
        click.echo(json.dumps(document(measured), ensure_ascii=False))
    elif not measured.completion.text.endswith("\n"):
        click.echo()


def write(text: str) -> None:
    """Show a piece of text at once."""
    click.echo(text, nl=False)


def discard(text: str) -> None:
    """Show nothing of it yet."""


def document(measured: Measured) -> dict[str, Any]:
    """What ``--json`` prints."""
    completion = measured.completion
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "usage": {**asdict(completion.usage), "total_tokens": completion.usage.total_tokens},
        "stats": {
            "first_token_s": measured.first_token_s,
            "total_s": measured.total_s,
            "tokens_per_s": measured.tokens_per_s,
            "tokens_per_target_step": measured.tokens_per_target_step,
            "stages": [asdict(stage) for stage in completion.stats],
        },
    }
