"""Who takes part: a name, a title, how it serves many sessions, and where its code is.

Plain data. The code is named, not imported: it needs torch, and only the worker that runs it pays for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOOKUP_TOKENS = 10
"""What transformers' documentation shows for prompt lookup."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to serve sessions.

    Attributes:
        name: key in the results.
        title: what it is.
        serving: how it serves more than one session.
        entry: ``module:function`` within this package; takes a setup, a workload, a report and ``options``, gives a run.
        options: further keywords of the entry.
        needs_many: differs from its neighbour only above one session.
        needs_assistant: cannot run without a smaller model.
        is_ours: for the picture.
    """

    name: str
    title: str
    serving: str
    entry: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_many: bool = False
    needs_assistant: bool = False
    is_ours: bool = False

    def serves(self, num_sessions: int) -> bool:
        """Whether it is worth a row at this number of sessions."""
        return num_sessions > 1 or not self.needs_many


_ONE_BY_ONE = "one after another"
_PADDED = "left-padded batch"
_STATIC = {"cache_implementation": "static"}

REFERENCE = Contender(
    "generate-dynamic", "generate, dynamic cache", _ONE_BY_ONE, "generate:one_after_another"
)
"""Whose token ids all others are compared with."""

CONTENDERS = (
    REFERENCE,
    Contender(
        "generate-dynamic-batch", "generate, dynamic cache", _PADDED, "generate:padded_batch", needs_many=True
    ),
    Contender(
        "generate-static", "generate, static cache", _ONE_BY_ONE, "generate:one_after_another", _STATIC
    ),
    Contender(
        "generate-static-batch",
        "generate, static cache",
        _PADDED,
        "generate:padded_batch",
        _STATIC,
        needs_many=True,
    ),
    Contender(
        "generate-lookup",
        "generate, prompt lookup",
        _ONE_BY_ONE,
        "generate:one_after_another",
        {"prompt_lookup_num_tokens": LOOKUP_TOKENS},
    ),
    Contender(
        "generate-assistant",
        "generate, assistant model",
        _ONE_BY_ONE,
        "generate:assisted",
        needs_assistant=True,
    ),
    Contender("per-session", "a dynamic cache per session", "round robin", "per_session:round_robin"),
    Contender("continuous-batching", "continuous batching", "its scheduler", "continuous:batched"),
    Contender(
        "engine-single", "PipeSpec engine", _ONE_BY_ONE, "driver:engine_alone", {"at_once": 1}, is_ours=True
    ),
    Contender(
        "engine", "PipeSpec engine", "ragged batch", "driver:engine_alone", needs_many=True, is_ours=True
    ),
    Contender(
        "target",
        "PipeSpec services, target alone",
        "ragged batch",
        "chain:served",
        {"speculate": False},
        is_ours=True,
    ),
    Contender(
        "chain",
        "PipeSpec services, suffix -> target",
        "ragged batch",
        "chain:served",
        {"speculate": True},
        is_ours=True,
    ),
)


def choose(names: str) -> tuple[Contender, ...]:
    """The contenders that a comma-separated list names, in their order, the reference always among them.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = {name.strip() for name in names.split(",")}
    unknown = wanted - {contender.name for contender in CONTENDERS}
    if unknown:
        known = ", ".join(contender.name for contender in CONTENDERS)
        raise ValueError(f"no contender {', '.join(sorted(unknown))}; there are: {known}")
    return tuple(one for one in CONTENDERS if one is REFERENCE or one.name in wanted)
