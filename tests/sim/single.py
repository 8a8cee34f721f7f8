"""Single-fault mode: one fault on an otherwise clean network, and the longest pause that its clients may see.

The timers are those of the specification's table (heartbeat 0.1 s, dead 0.5 s, stall 1 s), so the pauses can be compared with its
prototype's. A seed's class is its place in the list, so every class gets its share of any range of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from sim.plan import FOREVER, Case, Clock, Cut, Plan, Request, Restart, Span, Spans, StageSpec

TIMERS = Spans(heartbeat_s=0.1, dead_s=0.5, stall_s=1.0, lease_s=2.0, hung_s=0.6, lost_s=30.0)
CHAIN = (StageSpec(0.004, 0.7, 2), StageSpec(0.012, 0.85, 2), StageSpec(0.04, 1.0, 2))
_AT_S, _BLINK_S = 0.7, 0.05
_STEP_S = 0.45
"""What recovery takes beside the timer: messages, the new target's reading, a step, a tick on each side."""


@dataclass(frozen=True)
class Fault:
    """A class: what it does to the plan, and the pause that it may cost."""

    plan: Plan
    budget_s: float


def faults() -> dict[str, Fault]:
    """All classes by name. Replica r0 of a stage is hit, and r1 is well."""
    timers, clean = TIMERS, Plan(heal_s=_AT_S + 4.0)
    draft, middle, target = "stage.0.r0.", "stage.1.r0.", "stage.2.r0."
    early = [f"stage.{rank}.r{index}." for rank in (0, 1) for index in (0, 1)]
    silent_s = timers.dead_s + timers.heartbeat_s + _STEP_S
    stalled_s = timers.stall_s + timers.heartbeat_s + _STEP_S
    gone = (_AT_S, FOREVER)

    def of(budget_s: float, **changes: object) -> Fault:
        return Fault(replace(clean, **changes), budget_s)  # type: ignore[arg-type]  # fields of a plan

    return {
        "none": of(_STEP_S),
        "target_dead": of(silent_s, restarts=(Restart(target, *gone),)),
        "target_frozen": of(silent_s, freezes=(Span(target, *gone),)),
        "target_thawed": of(silent_s, freezes=(Span(target, _AT_S, _AT_S + 3.0),)),
        "target_mute": of(silent_s, cuts=(Cut(target, "*", *gone),)),
        "target_deaf": of(stalled_s, cuts=(Cut("*", target, *gone),)),
        "target_hung": of(timers.hung_s + timers.heartbeat_s + _STEP_S, hangs=(Span(target, *gone),)),
        "target_restarted": of(silent_s + timers.dead_s, restarts=(Restart(target, _AT_S, _BLINK_S),)),
        "draft_dead": of(_STEP_S, restarts=(Restart(draft, *gone),)),
        "draft_hung": of(_STEP_S, hangs=(Span(draft, *gone),)),
        "middle_frozen": of(_STEP_S, freezes=(Span(middle, *gone),)),
        "all_drafts_dead": of(_STEP_S, restarts=tuple(Restart(node, *gone) for node in early)),
        "gateway_cut_1s": of(
            1.0 + timers.dead_s + _STEP_S,
            cuts=(Cut("gateway.g0.", "*", _AT_S, _AT_S + 1), Cut("*", "gateway.g0.", _AT_S, _AT_S + 1)),
        ),
        "gateway_frozen_1s": of(
            1.0 + timers.dead_s + _STEP_S, freezes=(Span("gateway.g0.", _AT_S, _AT_S + 1),)
        ),
        "clocks_apart": of(
            _STEP_S, clocks=tuple(Clock(node, 3600.0, 1.01) for node in (*early, target, "gateway.g0."))
        ),
        "loss_1": of(2 * _STEP_S, drop=0.01),
        "loss_10": of(stalled_s, drop=0.1),
        "loss_30": of(2 * stalled_s, drop=0.3),
        "duplicated_and_late": of(silent_s + stalled_s, duplicate=0.3, spike=0.3, max_spike_s=0.6),
        "flips_1": of(2 * _STEP_S, flip=0.01),
    }


FAULTS = faults()
_NAMES = tuple(FAULTS)


def single_case(seed: int) -> Case:
    """Three clients, one fault."""
    random = Random(f"single-{seed}")
    name = _NAMES[seed % len(_NAMES)]
    fault = FAULTS[name]
    requests = tuple(
        Request(
            at_s=random.uniform(0.25, 0.6),
            gateway=0,
            num_prompt=random.choice([1, 5, 40]),
            max_tokens=48,
            seed=random.getrandbits(60),
        )
        for _ in range(3)
    )
    return Case(
        "single",
        seed,
        CHAIN,
        1,
        fault.plan,
        requests,
        TIMERS,
        moods=False,
        budget_s=fault.budget_s,
        fault=name,
    )
