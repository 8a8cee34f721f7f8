"""Every rule of the protocol has a switch, and some seed fails when it is off; else the rule or the simulation is idle.

Where two rules cover for each other both are off, and each alone is harmless. ``docs/simulation.md`` tells what notices each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest

from pipespec.protocol.rules import Rules
from sim.clients import Violation
from sim.modes import case_of
from sim.plan import FOREVER, Case, Restart
from sim.scenario import run_case

MOST_SEEDS = 150


def as_it_is(case: Case) -> Case:
    return case


def with_long_texts(case: Case) -> Case:
    """Sessions that go on well after all has healed."""
    requests = tuple(
        replace(request, max_tokens=100, stop_ids=(), cancel_s=FOREVER) for request in case.requests
    )
    return replace(case, requests=requests, patience_s=60.0)


def with_many_forks(case: Case) -> Case:
    return replace(case, fork=0.3)


def with_misreading_targets(case: Case) -> Case:
    targets = tuple(f"stage.{case.target}.r{index}." for index in range(case.chain[-1].replicas))
    return replace(case, plan=replace(case.plan, misreads=targets))


def with_a_wrong_rollout(case: Case) -> Case:
    """Under the name of a target comes a process of another chain, while the former one's words are under way."""
    target = f"stage.{case.target}.r0."
    rollout = Restart(target, 0.8, 0.05, "tokenizer"), Restart(target, 2.02, 0.0)
    return replace(case, plan=replace(case.plan, restarts=(*case.plan.restarts, *rollout)))


def with_many_flips(case: Case) -> Case:
    return replace(case, plan=replace(case.plan, flip=0.2))


def with_patience_for_loops(case: Case) -> Case:
    """A loop that stands still is not noticed either, so that silence is."""
    return replace(case, timers=replace(case.timers, hung_s=15.0))


@dataclass(frozen=True)
class Switch:
    """What is off, and where it is noticed."""

    off: tuple[str, ...]
    mode: str
    notices: str
    change: Callable[[Case], Case] = as_it_is

    def __str__(self) -> str:
        return " and ".join(self.off)


SWITCHES = (
    Switch(("first_branch_stays", "fence_epochs"), "fork", "I3: .* are not", with_many_forks),
    Switch(("check_digest",), "safety", "I1", with_misreading_targets),
    Switch(("check_seal",), "safety", "I[1-8]", with_many_flips),
    Switch(("check_identity",), "safety", "I1"),
    Switch(("whole_window",), "safety", "I5"),
    Switch(("bounded_window",), "fork", "I6: .* holds"),
    Switch(("later_rank_wins",), "safety", "I3: .* had said"),
    Switch(("dedup_by_position",), "safety", "I1"),
    Switch(("state_corrects",), "safety", "I5: .* holds", with_long_texts),
    Switch(("announce_states",), "safety", "I5"),
    Switch(("repeat_windows",), "safety", "I5: no end"),
    Switch(("sync",), "safety", "I5"),
    Switch(("pace_syncs",), "safety", "I8"),
    Switch(("suspect_silent",), "single", "target_.* a client waited", with_patience_for_loops),
    Switch(("watch_turns",), "single", "target_hung: a client waited"),
    Switch(("suspect_stalled",), "core", "I5: no end"),
    Switch(("target_alone_resets_stall",), "core", "I5: no end"),
    Switch(("decode_alone",), "core", "I5: no end"),
    Switch(("fence_incarnations",), "safety", "I5: ended with refused", with_a_wrong_rollout),
    Switch(("lease",), "safety", "I6: .* left"),
    Switch(("bury_closed",), "safety", "I7"),
)


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_turning_a_rule_off_is_noticed(switch: Switch) -> None:
    rules = Rules(**dict.fromkeys(switch.off, False))

    def run_all() -> None:
        for seed in range(MOST_SEEDS):
            run_case(switch.change(case_of(switch.mode, seed)), rules=rules)

    with pytest.raises(Violation, match=switch.notices):
        run_all()


def test_every_rule_has_a_switch_that_is_turned() -> None:
    turned = {name for switch in SWITCHES for name in switch.off}
    assert turned == {field.name for field in fields(Rules)}
