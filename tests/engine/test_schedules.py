"""Logits of random schedules equal those of the ordinary eager forward pass, family by family.

Prefill in chunks, verification of any width, rollbacks across the borders of blocks, pools too small for all, shared
prefixes, sessions that close while others go on: all of it mixed, in one batch per step.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from engine.families import NOT_PACKED, SERVED
from engine.moves import CONTEXT, SCHEDULES, Schedule, check, play
from engine.paging import engine_over, runner_of
from engine.tiny import tiny_model
from pipespec.engine.packed_linear import filled

TOLERANCE = 1e-4
OFTEN = ("llama", "gemma2", "gpt_oss")
"""Plain, capped and windowed, with sinks and experts."""


def play_many(family: str, *, num_examples: int, shaped: bool = False) -> Counter[str]:
    """Check ``num_examples`` schedules; how often rare things happened."""
    model = tiny_model(family, seed=3)
    model.set_attn_implementation("eager")
    packed = family not in NOT_PACKED
    runner = runner_of(model, packed=packed)
    seen: Counter[str] = Counter()

    @settings(
        max_examples=num_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    )
    @given(SCHEDULES)
    def play_one(schedule: Schedule) -> None:
        engine = engine_over(
            runner,
            num_blocks=schedule.num_blocks,
            block_size=schedule.block_size,
            context_len=CONTEXT,
            max_chunk=schedule.chunk,
            fill=filled if packed else int,
            shaped=shaped,
        )
        claims = play(schedule, engine, seen)
        check(claims, model, tolerance=TOLERANCE)
        seen["claims"] += len(claims)

    play_one()
    return seen


@pytest.mark.parametrize("shaped", [False, True], ids=("ragged", "shaped"))
@pytest.mark.parametrize("family", OFTEN)
def test_logits_are_those_of_the_ordinary_pass_under_any_schedule(family, shaped):
    seen = play_many(family, num_examples=40, shaped=shaped)
    assert all(seen[thing] > 10 for thing in ("claims", "preempted", "adopted", "copied")), seen


@pytest.mark.parametrize("family", [family for family in SERVED if family not in OFTEN])
def test_logits_of_every_family_are_those_of_the_ordinary_pass(family):
    assert play_many(family, num_examples=4)["claims"] > 0
