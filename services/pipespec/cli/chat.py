"""``pipespec chat``: a conversation in the terminal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipespec.cli.gateway_choice import chosen_client, gateway_options
from pipespec.cli.generate import write
from pipespec.cli.measured import measure
from pipespec.cli.progress import stderr
from pipespec.cli.sampling_options import sampling_options
from pipespec.client import Client, Curve
from pipespec.ops.errors import RequestError

RESET = "/reset"


@click.command()
@sampling_options
@click.option("--system", help="Instruction that stands before the conversation.")
@gateway_options
def chat(
    *,
    options: dict[str, Any],
    system: str | None,
    url: str | None,
    curve: Curve | None,
    api_key: str | None,
    ca: Path | None,
    name: str | None,
    pipeline: Path | None,
) -> None:
    """Talk with the model.

    /reset forgets the conversation, Ctrl-C ends an answer, Ctrl-D ends the chat.
    """
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives `input` line editing and history
    with chosen_client(url=url, curve=curve, api_key=api_key, ca=ca, name=name, pipeline=pipeline) as client:
        stderr.print(f"{RESET} forgets the conversation, Ctrl-C ends an answer, Ctrl-D ends the chat")
        conversation = Conversation(client, options=options, system=system)
        while (line := _read_line()) is not None:
            if line.strip() == RESET:
                conversation.reset()
                stderr.print("forgotten")
            elif line.strip():
                conversation.say(line)


class Conversation:
    """What was said so far; an answer that was ended or failed is forgotten together with its question."""

    def __init__(self, client: Client, *, options: dict[str, Any], system: str | None) -> None:
        self._client = client
        self._options = options
        self._system = system
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system instruction."""
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def say(self, text: str) -> None:
        """Ask, show the answer as it comes, and its rate."""
        asked = [*self.messages, {"role": "user", "content": text}]
        try:
            measured = measure(lambda: self._client.stream(messages=asked, **self._options), on_text=write)
        except RequestError as error:
            stderr.print(f"\nerror: {error}", markup=False, soft_wrap=True)
            if error.code == "context_length_exceeded":
                stderr.print(f"the conversation is too long; {RESET} starts a new one")
            return
        except KeyboardInterrupt:
            stderr.print("\n(ended)", markup=False)
            return
        click.echo()
        stderr.print(f"{measured.num_tokens} tokens, {measured.tokens_per_s:.1f} tokens/s", style="dim")
        self.messages = [*asked, {"role": "assistant", "content": measured.completion.text}]


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        click.echo()
        return None
