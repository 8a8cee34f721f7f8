"""The simulator against courses worked out by hand, and against the oracle."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipespec.emulation.chain import language_of
from pipespec.ops.errors import Overloaded, SettingsError
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.simulation.clients import Request
from pipespec.planner.simulation.run import NO_OVERHEADS, Overheads, SimulationResult, simulate
from pipespec.planner.variants import synchronous
from pipespec.protocol.ids import Member
from pipespec.protocol.placement import PrefixKeys
from planner.chains import pipeline, stage

ALONE = pipeline(stage({1: 100.0}))
PERFECT = pipeline(stage({1: 10.0}, 1.0, lookahead=4), stage({1: 100.0}))


def course(chain: Pipeline, tokens: int, *, overheads: Overheads = NO_OVERHEADS) -> list[float]:
    """Milliseconds at which the tokens of one session arrive."""
    (session,) = simulate(chain, [Request((40,), tokens)], overheads=overheads).load.sessions
    return [round(1e3 * at_s, 3) for at_s in session.at_s]


def test_a_target_alone_says_a_token_per_step() -> None:
    assert course(ALONE, 3) == [100, 200, 300]


def test_messages_and_services_take_their_time() -> None:
    assert course(ALONE, 3, overheads=Overheads(bus_s=0.004, step_s=0.001)) == [109, 210, 311]


def test_a_perfect_draft_that_may_be_four_ahead_is_caught_up_with_every_other_step() -> None:
    """At 100 three candidates are there; at 200 the draft, which stood at its lookahead, has none, at 300 three again."""
    assert course(PERFECT, 11) == [100, *[200] * 4, 300, *[400] * 4, 500]


def test_a_perfect_draft_that_may_be_far_ahead_gives_its_own_pace() -> None:
    """After every hundred milliseconds there are eleven tokens more, one of which the target says itself."""
    fast = pipeline(stage({1: 9.0}, 1.0, lookahead=64), stage({1: 100.0}))
    assert course(fast, 34) == [100, *[200] * 11, *[300] * 11, *[400] * 11]


def test_synchronous_rounds_are_four_draft_steps_and_a_verification() -> None:
    """The first step reads the prompt and waits for nobody, and the last one has room for no candidate."""
    assert course(synchronous(PERFECT, (4,)), 12) == [100, *[210] * 5, *[350] * 5, 450]


def test_a_draft_that_is_always_wrong_is_checked_in_vain() -> None:
    """What it says is thrown away before it can be checked; no step brings more than the target's own token."""
    wrong = pipeline(stage({1: 10.0}, 0.0), stage({1: 100.0, 2: 150.0}))
    result = simulate(wrong, [Request((40,), 6)], overheads=NO_OVERHEADS)
    assert result.stages[1].steps == 6
    assert result.stages[1].accepted == 0


def test_sessions_share_steps_and_pay_for_it() -> None:
    shared = pipeline(stage({1: 100.0, 2: 104.0}, session_ms=5.0))
    result = simulate(shared, [Request((40,), 3), Request((41,), 3)], overheads=NO_OVERHEADS)
    assert [round(1e3 * at_s) for at_s in result.load.sessions[0].at_s] == [100, 209, 318]
    assert result.stages[0].steps == 4  # the first began before the second session came, and ended before


def test_replicas_serve_side_by_side() -> None:
    twice = pipeline(stage({1: 100.0}, replicas=2))
    result = simulate(twice, [Request((40,), 3), Request((41,), 3)], overheads=NO_OVERHEADS)
    assert [session.at_s for session in result.load.sessions] == [pytest.approx((0.1, 0.2, 0.3))] * 2
    assert result.stages[0].busy == pytest.approx(1.0)


class Crowding:
    """Sends everyone to the first replica."""

    def choose(self, loads: Mapping[Member, int], prefix: PrefixKeys) -> Member:
        return min(loads)

    def placed(self, member: Member, prefix: PrefixKeys) -> None:
        pass


def test_another_placement_is_another_course() -> None:
    twice = pipeline(stage({1: 100.0}, replicas=2))
    requests = [Request((40,), 3), Request((41,), 3)]
    crowded = simulate(twice, requests, overheads=NO_OVERHEADS, placement=Crowding())
    assert crowded.stages[0].busy == pytest.approx(0.5)


@pytest.mark.parametrize("agreement", [0.2, 0.7, 0.95])
def test_every_text_is_the_targets_own(agreement: float) -> None:
    chain = pipeline(
        stage({1: 3.0}, agreement, replicas=2), stage({1: 9.0, 8: 12.0}, 0.8), stage({1: 30.0, 9: 40.0})
    )
    requests = [Request((40 + n, 7), 40, at_s=0.05 * n) for n in range(6)]
    served = simulate(chain, requests).load.sessions
    language = language_of(chain.stages)
    assert [list(one.tokens) for one in served] == [language.target_text(r.prompt, 40) for r in requests]


def test_a_run_repeats_itself() -> None:
    def run() -> SimulationResult:
        return simulate(PERFECT, [Request((40,), 20), Request((41,), 20)])

    assert run() == run()


def test_what_is_not_emulated_cannot_be_simulated() -> None:
    real = parse_pipeline({"stages": [{"model": "some/model"}]}, source="test")
    with pytest.raises(SettingsError, match="emulated"):
        simulate(real, [Request((1,), 2)])


def test_more_sessions_than_replicas_hold_are_refused_as_by_the_gateway() -> None:
    small = pipeline(stage({1: 100.0}, max_sessions=1))
    with pytest.raises(Overloaded):
        simulate(small, [Request((1,), 2), Request((2,), 2)])
