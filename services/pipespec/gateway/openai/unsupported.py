"""Parameters of OpenAI's that are refused, and the values of them that ask for nothing.

Clients send many parameters at their neutral value; those are dropped. Anything else that the schema does not name is
refused, never ignored: a parameter without effect would be a silent lie.
"""

from __future__ import annotations

from typing import Any

INERT: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
    "metadata": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
}


def drop_inert(body: dict[str, Any]) -> dict[str, Any]:
    """``body`` without nulls and without unsupported parameters at a value that changes nothing."""
    return {name: value for name, value in body.items() if value is not None and not _is_inert(name, value)}


def _is_inert(name: str, value: Any) -> bool:
    # By type too: in Python False == 0, but `logprobs: 0` asks for something.
    return any(type(value) is type(inert) and value == inert for inert in INERT.get(name, ()))
