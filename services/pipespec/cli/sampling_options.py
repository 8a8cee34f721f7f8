"""The options of a request that all commands share. What they may be is checked by the gateway."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a request; the command gets those that were given as ``options``."""

    def run(**arguments: Any) -> Any:
        options = {name: arguments.pop(name) for name in _NAMES}
        given = {name: value for name, value in options.items() if value not in {None, ()}}
        return command(options=given, **arguments)

    wrapped: Callable[..., Any] = update_wrapper(run, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_NAMES = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop")
_OPTIONS = (
    click.option("--max-tokens", type=int, help="Tokens to generate at most.  [default: the gateway's]"),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy."),
    click.option("--top-p", type=float, help="Keep the smallest set of tokens with this probability."),
    click.option("--top-k", type=int, help="Keep the k most probable tokens."),
    click.option("--min-p", type=float, help="Keep tokens at least this fraction as probable as the best."),
    click.option("--seed", type=int, help="The same seed gives the same text.  [default: drawn]"),
    click.option("--stop", multiple=True, help="End before this text; may be given several times."),
)
