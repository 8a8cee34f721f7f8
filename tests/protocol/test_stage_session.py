"""One session at one stage: what it checks, what it says, and how its cache follows."""

from __future__ import annotations

from pipespec.protocol.ids import Rank, stage_inbox
from pipespec.protocol.messages import SegmentKind
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.work import Outcome
from protocol.examples import ids
from protocol.sessions import GATEWAY, commit, done, hear, opened, run


def test_a_prompt_that_begins_as_a_cached_one_is_fed_from_where_the_cache_ends() -> None:
    session = opened(2, prompt=ids(*range(20)))
    work = session.work(max_tokens=99)
    assert work is not None
    session.on_outcome(work, Outcome([], held=16), busy_us=1)
    work = session.work(max_tokens=99)
    assert work is not None
    assert (work.start, work.tokens, work.room) == (16, ids(16, 17, 18, 19), 1)


def test_a_cache_that_was_given_away_is_fed_again_from_the_log() -> None:
    session = opened(2)
    run(session, 10)
    work = session.work(max_tokens=99)
    assert work is not None
    steps = session.counters.steps
    assert not session.on_outcome(work, Outcome([], held=0), busy_us=1)
    assert session.counters.steps == steps
    work = session.work(max_tokens=99)
    assert work is not None
    assert (work.start, work.tokens) == (0, ids(1, 2, 3, 10))


def test_no_work_is_cut_larger_than_what_is_left_of_the_step() -> None:
    session = opened(2, prompt=ids(*range(20)))
    work = session.work(max_tokens=5)
    assert work is not None
    assert (len(work.tokens), work.room) == (5, 0)
    session.on_outcome(work, done(work, []), busy_us=1)
    assert session.work(max_tokens=0) is None


def test_a_long_prompt_is_fed_in_chunks_and_only_the_last_step_picks() -> None:
    session = opened(2, prompt=ids(*range(20)))
    chunks = []
    for _ in range(2):
        work = session.work(max_tokens=99)
        assert work is not None
        chunks.append((work.start, len(work.tokens), work.room))
        session.on_outcome(work, done(work, []), busy_us=1)
    work = session.work(max_tokens=99)
    assert work is not None
    assert chunks == [(0, 8, 0), (8, 8, 0)]
    assert (work.start, work.tokens, work.room) == (16, ids(16, 17, 18, 19), 1)


def test_one_step_is_in_flight_at_a_time() -> None:
    session = opened(2)
    assert session.work(max_tokens=99) is not None
    assert session.work(max_tokens=99) is None


def test_a_step_checks_all_candidates_and_keeps_the_right_ones_plus_one_of_its_own() -> None:
    session = opened(1)
    hear(session, 0, 10, 11, 12)
    work = session.work(max_tokens=99)
    assert work is not None
    assert (work.tokens, work.num_candidates, work.room) == (ids(1, 2, 3, 10, 11, 12), 3, 4)
    session.on_outcome(work, done(work, ids(10, 99, 50, 51)), busy_us=1)
    assert session.claims.log.slice(0, 9) == ids(10, 99)
    kinds = {topic: (segment.kind, segment.tokens) for topic, segment in session.segments()}
    assert kinds == {
        stage_inbox(Rank(0), "a"): (SegmentKind.ROLLBACK, ids(10, 99)),
        stage_inbox(Rank(2), "c"): (SegmentKind.SPECULATION, ids(10, 99)),
    }
    counters = session.counters
    assert (counters.checked, counters.accepted, counters.rollbacks, counters.tokens) == (3, 1, 1, 2)


def test_when_all_candidates_are_right_the_bonus_token_follows() -> None:
    session = opened(2)
    hear(session, 1, 10, 11)
    run(session, 10, 11, 12)
    topics = [(topic, segment.kind) for topic, segment in session.segments()]
    assert session.claims.log.slice(0, 9) == ids(10, 11, 12)
    assert (GATEWAY, SegmentKind.VERIFICATION) in topics


def test_the_cache_keeps_accepted_candidates_and_drops_the_rest() -> None:
    session = opened(1)
    hear(session, 0, 10, 11, 12)
    run(session, 10, 99, 50, 51)
    work = session.work(max_tokens=99)
    assert work is not None
    assert (work.start, work.tokens) == (4, ids(99))


def test_what_is_undone_while_a_step_runs_is_not_trusted_in_the_cache() -> None:
    session = opened(1)
    hear(session, 0, 10, 11, 12)
    work = session.work(max_tokens=99)
    assert work is not None
    hear(session, 2, 10, 77, base=0)
    session.on_outcome(work, done(work, ids(10, 11, 12, 13)), busy_us=1)
    assert session.claims.log.slice(0, 9) == ids(10, 77)
    following = session.work(max_tokens=99)
    assert following is not None
    assert (following.start, following.tokens) == (4, ids(77))


def test_a_draft_runs_ahead_by_its_lookahead_and_no_further() -> None:
    session = opened(0)
    for token in range(10, 14):
        run(session, token)
    assert session.work(max_tokens=99) is None
    hear(session, 1, 10, 11)
    assert session.work(max_tokens=99) is not None


def test_a_rollback_replaces_the_own_words_after_it_and_is_counted() -> None:
    session = opened(0)
    for token in (10, 11, 12):
        run(session, token)
    hear(session, 2, 10, 99)
    assert session.claims.log.slice(0, 9) == ids(10, 99)
    assert session.counters.rolled_back == 2
    work = session.work(max_tokens=99)
    assert work is not None
    assert (work.start, work.tokens) == (4, ids(99))


def test_the_window_goes_on_being_said_until_it_is_committed() -> None:
    session = opened(2)
    run(session, 10)
    run(session, 11)
    assert [s.tokens for t, s in session.segments() if t == GATEWAY] == [ids(10, 11)]
    commit(session, 1)
    assert [(s.base, s.tokens) for t, s in session.segments() if t == GATEWAY] == [(1, ids(11))]
    commit(session, 2)
    assert session.segments() == []


def test_a_session_is_complete_at_a_stop_id_or_at_max_tokens() -> None:
    session = opened(2, stop_ids=(5,))
    hear(session, 1, 10, 5, 11)
    work = session.work(max_tokens=99)
    assert work is not None
    assert work.candidates == ids(10, 5)
    session.on_outcome(work, done(work, ids(10, 5, 11)), busy_us=1)
    assert session.own == 2
    assert session.work(max_tokens=99) is None
    short = opened(2, max_tokens=2)
    hear(short, 1, 10, 11, 12)
    work = short.work(max_tokens=99)
    assert work is not None
    assert work.candidates == ids(10)


def test_a_stage_whose_context_is_full_falls_silent() -> None:
    session = opened(0, limits=StageLimits(lookahead=4, max_chunk=8, context_len=5))
    run(session, 10)
    run(session, 11)
    assert session.work(max_tokens=99) is None


def test_a_draft_without_a_guess_waits_for_news() -> None:
    session = opened(0, limits=StageLimits(lookahead=4, max_chunk=8, context_len=100, is_model_free=True))
    work = session.work(max_tokens=99)
    assert work is not None
    assert work.room == 4
    session.on_outcome(work, done(work, []), busy_us=1)
    assert session.work(max_tokens=99) is None
    hear(session, 2, 10)
    work = session.work(max_tokens=99)
    assert work is not None
    session.on_outcome(work, done(work, ids(11, 12)), busy_us=1)
    assert session.claims.log.slice(0, 9) == ids(10, 11, 12)


def test_a_full_window_stops_the_target_until_the_gateway_commits() -> None:
    session = opened(2, limits=StageLimits(lookahead=4, max_chunk=8, context_len=100, max_window=6))
    for token in range(10, 16):
        run(session, token)
    assert session.work(max_tokens=99) is None
    commit(session, 2)
    assert session.work(max_tokens=99) is not None
