"""The part of the pipeline file that says what an emulated stage is like."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipespec.ops.settings import Settings


class EmulationSettings(Settings):
    """What a stage of kind ``emulated`` is like. What it says is a hash of what was said before."""

    latency_ms: Annotated[
        dict[
            Annotated[int, Field(ge=1, le=1_000_000)],
            Annotated[float, Field(ge=0, le=3_600_000, allow_inf_nan=False)],
        ],
        Field(min_length=1),
    ]
    """Time of a step by the tokens in it, of all sessions together; straight between these points and after the last."""
    session_ms: float = Field(default=0.0, ge=0, le=60_000, allow_inf_nan=False)
    """Added for every session of a step but the first."""
    agreement: float | None = Field(default=None, ge=0, le=1)
    """Probability that it says what the next stage says; every stage needs it but the target, which has none."""
    agreement_beyond: dict[Annotated[int, Field(ge=1, le=14)], Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict
    )
    """With stages after the next one, by how many further on; where ``pipespec plan`` leaves stages out it takes these, or
    else the product of the agreements on the way."""
    stands_for: str | None = Field(default=None, min_length=1, max_length=64)
    """Name of what it emulates, for tables."""
    jitter: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of a step's time, as a fraction of it."""
    seed: int | None = Field(default=None, ge=0, lt=2**64)
    """Of the target only: another one makes the chain say something else; 0 by default."""
    context_len: int = Field(default=131_072, ge=2, le=100_000_000)
    """Tokens that a session may hold."""


def check_emulation(path: str, emulation: EmulationSettings, *, num_later: int) -> None:
    """Refuse what only makes sense elsewhere in the chain.

    Args:
        path: of the settings in the file.
        emulation: the settings.
        num_later: stages that follow.

    Raises:
        ValueError: says which and why.
    """
    is_target = num_later == 0
    if is_target and emulation.agreement is not None:
        raise ValueError(
            f"{path}.agreement is {emulation.agreement}: the target has no next stage; remove it"
        )
    if not is_target and emulation.agreement is None:
        raise ValueError(
            f"{path}.agreement is required: how often this stage says what the next one says, 0 to 1"
        )
    beyond = [further for further in emulation.agreement_beyond if further >= num_later]
    if beyond:
        raise ValueError(
            f"{path}.agreement_beyond[{beyond[0]}]: no stage is so far beyond the next; {num_later} follow this one"
        )
    if not is_target and emulation.seed is not None:
        raise ValueError(
            f"{path}.seed is {emulation.seed}: the target's decides for all stages; set it there"
        )
