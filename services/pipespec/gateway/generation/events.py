"""What a generation says while it runs; each adapter writes these in its protocol's words.

A choice is one continuation of one prompt. Its events are any number of ``Delta`` and then one ``Done``; a generation
that fails raises instead, and then no ``Done`` follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipespec.gateway.backend import StageStats
from pipespec.protocol.ids import Position, TokenId


class FinishReason(StrEnum):
    """Why a choice is complete; OpenAI's words."""

    STOP = "stop"
    """A stop id or a stop string."""
    LENGTH = "length"
    """``max_tokens`` were generated."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one choice; its prompt's are counted with every choice."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens of a choice, and the text that became final with them.

    Text may lag behind the tokens: inside a multi-byte character, or where a stop string may be forming.

    Attributes:
        index: the choice.
        text: may be empty.
        token_ids: may be empty when only held-back text is delivered.
        start: sequence number of ``token_ids[0]``; of the next token when there are none.
    """

    index: int
    text: str
    token_ids: tuple[TokenId, ...]
    start: Position


@dataclass(frozen=True, slots=True)
class Done:
    """A choice is complete.

    Attributes:
        index: the choice.
        finish_reason: why.
        usage: what it took.
        stats: counters of the stages, when the request asked for them.
    """

    index: int
    finish_reason: FinishReason
    usage: Usage
    stats: tuple[StageStats, ...] | None


Event = Delta | Done
