"""What a generation gives: chunks while it runs, a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens, and the text that became final with them.

    Text may lag behind the tokens: inside a multi-byte character, or where a stop string may be forming.

    Attributes:
        text: may be empty.
        token_ids: may be empty.
        start: sequence number of ``token_ids[0]``, from 0 without gaps.
        resume_id: what ``resume`` takes to go on after this chunk; None unless the request is resumable.
    """

    text: str
    token_ids: tuple[int, ...]
    start: int
    resume_id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did for one generation.

    Attributes:
        rank: place in the chain; the last one is the target.
        name: ``<rank>:<kind or model>``, for people.
        steps: forward passes, prefill included.
        prefill_steps: those of them that only filled the cache.
        tokens: own tokens published.
        checked: candidates of earlier stages that were checked.
        accepted: those that were right.
        rollbacks: steps whose last pick contradicted a candidate.
        rolled_back: own tokens that a later stage undid.
        busy_us: microseconds inside steps.
    """

    rank: int
    name: str
    steps: int
    prefill_steps: int
    tokens: int
    checked: int
    accepted: int
    rollbacks: int
    rolled_back: int
    busy_us: int


@dataclass(frozen=True, slots=True)
class Started:
    """A resumable stream has begun: ``resume_id`` is its name, which resumes it from its first event on."""

    resume_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation, as it comes over the wire; ``Completion`` adds what came before."""

    finish_reason: str
    usage: Usage
    stats: tuple[StageReport, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete generation.

    Attributes:
        request_id: it was known by while it ran.
        text: all of it.
        token_ids: all of them, with the one that ended the text.
        finish_reason: ``stop`` or ``length``.
        usage: tokens.
        stats: one per stage, in order of rank; empty unless ``include_stats`` was set.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    stats: tuple[StageReport, ...]
