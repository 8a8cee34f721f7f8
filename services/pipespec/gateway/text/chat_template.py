"""Chat templates: a conversation to one string, by the model's own Jinja template, in a sandbox.

Sits below ``TextModel``. The environment is configured as transformers' ``apply_chat_template`` does it, so that equal
templates give equal text. Only the server's template runs, never a client's; its output and its time are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from pipespec.gateway.text.sandbox import BoundedSandbox, OutOfTime
from pipespec.ops.errors import ModelError, RequestError

MAX_GROWTH = 4
"""Characters that a template may write per character of the messages ..."""
MAX_OVERHEAD = 64 * 1024
"""... and on top of that."""
MAX_RENDER_S = 0.25
"""Seconds of the processor."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn: ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source, from the model's folder.
        special_tokens: template variables such as ``bos_token``.

    Raises:
        ModelError: the source does not compile, or reaches for what the sandbox forbids.
    """

    def __init__(self, source: str, *, special_tokens: Mapping[str, str]) -> None:
        self._special_tokens = dict(special_tokens)
        self._environment = _environment()
        try:
            self._template = self._environment.from_string(source)
            self._probe()
        except TemplateError as error:
            raise ModelError(f"the model's chat template cannot be used: {error}") from error

    def _probe(self) -> None:
        try:
            self.render([ChatMessage("user", ".")])
        except RequestError as error:
            if isinstance(error.__cause__, SecurityError) and not isinstance(error.__cause__, OutOfTime):
                raise error.__cause__ from error
            # Any other refusal is of this conversation, not of the template.

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Text of the conversation, up to where the assistant's next turn begins.

        Raises:
            RequestError: the template refuses the conversation, or writes too much or for too long.
        """
        size = sum(len(message.content) + len(message.role) for message in messages)
        limit = MAX_GROWTH * size + MAX_OVERHEAD
        pieces: list[str] = []
        written = 0
        try:
            with self._environment.limit(MAX_RENDER_S):
                for piece in self._pieces(messages):
                    self._environment.turn()
                    pieces.append(piece)
                    written += len(piece)
                    if written > limit:
                        raise _refusal(f"it wrote more than {limit} characters")
        except (
            TemplateError,
            TypeError,
            ValueError,
            LookupError,
            ArithmeticError,
            AttributeError,
            RecursionError,
        ) as error:
            raise _refusal(str(error)) from error
        return "".join(pieces)

    def _pieces(self, messages: Sequence[ChatMessage]) -> Iterator[str]:
        return self._template.generate(
            messages=[{"role": message.role, "content": message.content} for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **self._special_tokens,
        )


def _refusal(reason: str) -> RequestError:
    return RequestError(
        f"the model's chat template refuses these messages: {reason}",
        code="chat_template_refused",
        param="messages",
    )


class _GenerationBlock(Extension):
    """``{% generation %}`` marks the assistant's words for training; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012 - the base class's declared type

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> BoundedSandbox:
    environment = BoundedSandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, loopcontrols],
        autoescape=False,
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML characters.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)  # noqa: TID251 - the template asks for the date
