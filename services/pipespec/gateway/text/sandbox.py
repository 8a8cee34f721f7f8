"""Jinja for templates that came with a model: no way out of it, a bounded time, and no text that grows without bound.

Jinja's own sandbox keeps a template from Python's insides and bounds ``range``, but a template may loop inside a loop, or
double a string thirty times, and never write a character. So the compiled template calls ``turn`` in every round of a loop
and in every macro, and the operators that make long values look at the lengths first. The time is the
thread's own: a busy machine refuses nobody. Filters that pad are left out.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_CHARS = 16 * 1024 * 1024
"""Of a value inside a template; what it may write is bounded far below."""
_MAX_BITS = 4096
_WIDTH = re.compile(r"[0-9]{5}|\*")
_FORMAT_WIDTH = re.compile(r"[0-9]{5}|:[^}]*\{")
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})


class OutOfTime(SecurityError):
    """The template needs longer than it may."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The environment; render inside ``limit``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._time = threading.local()
        for name in ("center", "format"):
            del self.filters[name]

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Templates that this thread renders in the block may use so much of the processor."""
        self._time.until = time.thread_time() + seconds
        try:
            yield
        finally:
            del self._time.until

    def turn(self) -> None:
        """Called by compiled templates, again and again.

        Raises:
            OutOfTime: the time is over.
        """
        if time.thread_time() > self._time.until:
            raise OutOfTime("it takes too long")

    def join_text(self, *parts: object) -> str:
        """What ``a ~ b`` is compiled to."""
        texts = [str(part) for part in parts]
        _check_length(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator, unless the result would be out of all proportion."""
        if operator == "%":
            if isinstance(left, str) and _WIDTH.search(left):
                raise SecurityError("a format with such a width is not allowed")
        elif isinstance(left, int) and isinstance(right, int):
            _check_bits(operator, left, right)
        elif operator == "*":
            _check_length(_times(left, right))
        elif operator == "+" and isinstance(left, str | list | tuple):
            _check_length(len(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` as Jinja's sandbox lets it be, without widths of more than four digits or from arguments."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _FORMAT_WIDTH.search(value.__self__):
            raise SecurityError("a format with such a width is not allowed")
        return wrapped

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As in Jinja's sandbox, without the methods that pad a string to any width."""
        if isinstance(obj, str) and attr in _PADDING:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        # Jinja's own place to come in between parsing and compiling.
        watched = _Watched(self).visit(source)
        return super()._generate(watched, name, filename, defer_init)


class _Watched(NodeTransformer):
    """Puts ``turn`` into all that repeats, and ``join_text`` in the place of ``~``; no template can shadow either."""

    def __init__(self, environment: BoundedSandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by the visitor
        return self._watch(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802 - named by the visitor
        return self._watch(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802 - named by the visitor
        return self._watch(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - named by the visitor
        self.generic_visit(node)
        return self._call("join_text", node.nodes, lineno=node.lineno)

    def _watch(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        turn = nodes.ExprStmt(self._call("turn", [], lineno=node.lineno), lineno=node.lineno)
        node.body.insert(0, turn)
        return node

    def _call(self, method: str, arguments: list[nodes.Expr], *, lineno: int) -> nodes.Call:
        function = nodes.EnvironmentAttribute(method, lineno=lineno)
        call = nodes.Call(function, arguments, [], None, None, lineno=lineno)
        call.set_environment(self._environment)
        return call


def _check_bits(operator: str, left: int, right: int) -> None:
    is_power = operator == "**"
    bits = left.bit_length() * max(0, right) if is_power else left.bit_length() + right.bit_length()
    if bits > _MAX_BITS:
        raise SecurityError("a number of such a size is not allowed")


def _times(left: Any, right: Any) -> int:
    """Length of a sequence times a number, 0 for other factors."""
    if isinstance(left, int):
        left, right = right, left
    return _length(left) * max(0, right) if isinstance(right, int) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _check_length(length: int) -> None:
    if length > MAX_CHARS:
        raise SecurityError("a value of such a length is not allowed")
