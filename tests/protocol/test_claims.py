"""Whose word counts: a later rank wins, the committed prefix is final, order and repetition change nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipespec.protocol.claims import ClaimedLog, Merge
from pipespec.protocol.ids import Digest, Position, Rank, TokenId
from pipespec.protocol.rules import Rules
from pipespec.protocol.tokenlog import TokenLog
from protocol.examples import ids
from protocol.test_tokenlog import IDENTITY

DRAFT, MIDDLE, TARGET, GATEWAY = Rank(0), Rank(1), Rank(2), Rank(3)


def claimed(rules: Rules | None = None) -> ClaimedLog:
    return ClaimedLog(TokenLog(IDENTITY, ids(1)), num_stages=3, rules=rules or Rules())


def say(log: ClaimedLog, rank: Rank, tokens: tuple[TokenId, ...], base: int = 0) -> Merge:
    return log.merge(rank, base=Position(base), digest=log.log.digest_at(base), tokens=tokens)


def text(log: ClaimedLog) -> tuple[TokenId, ...]:
    return log.log.slice(0, len(log))


def test_a_later_rank_corrects_an_earlier_one() -> None:
    log = claimed()
    say(log, DRAFT, ids(1, 2, 3))
    assert say(log, TARGET, ids(1, 9)) is Merge.APPLIED
    assert text(log) == ids(1, 9)
    assert log.said(DRAFT) == 1
    assert log.said_from(MIDDLE) == 2


def test_an_earlier_rank_cannot_undo_a_later_one() -> None:
    log = claimed()
    say(log, TARGET, ids(1, 9))
    assert say(log, DRAFT, ids(1, 2, 3)) is Merge.STALE
    assert text(log) == ids(1, 9)
    without_rule = claimed(Rules(later_rank_wins=False))
    say(without_rule, TARGET, ids(1, 9))
    say(without_rule, DRAFT, ids(1, 2, 3))
    assert text(without_rule) == ids(1, 2, 3)


def test_nothing_undoes_what_the_gateway_committed() -> None:
    log = claimed()
    say(log, GATEWAY, ids(1, 2))
    for rank in (DRAFT, MIDDLE, TARGET):
        assert say(log, rank, ids(1, 7, 7)) is Merge.STALE
    assert text(log) == ids(1, 2)


def test_a_claim_beyond_the_end_is_a_gap_and_on_another_prefix_diverged() -> None:
    log = claimed()
    say(log, DRAFT, ids(1, 2))
    assert log.merge(MIDDLE, base=Position(3), digest=Digest(bytes(16)), tokens=ids(4)) is Merge.GAP
    assert log.merge(MIDDLE, base=Position(1), digest=Digest(bytes(16)), tokens=ids(4)) is Merge.DIVERGED
    assert text(log) == ids(1, 2)


def test_a_commit_needs_no_tail_where_the_log_agrees_and_joins_one_where_it_is_short() -> None:
    source, log = claimed(), claimed()
    say(source, GATEWAY, ids(1, 2, 3, 4))
    digest = source.log.digest_at(4)
    say(log, DRAFT, ids(1, 2))
    assert log.commit(Position(4), digest, ids(4)) is Merge.GAP
    assert log.commit(Position(4), digest, ids(9, 4)) is Merge.DIVERGED
    assert log.committed == 0
    assert log.commit(Position(4), digest, ids(2, 3, 4)) is Merge.APPLIED
    assert log.committed == 4
    assert log.commit(Position(4), digest, ()) is Merge.APPLIED


SAYINGS = st.lists(
    st.tuples(st.sampled_from([DRAFT, MIDDLE, TARGET]), st.lists(st.integers(0, 2), max_size=6)), max_size=6
)


@settings(max_examples=200)
@given(sayings=SAYINGS, data=st.data())
def test_order_and_repetition_do_not_matter_once_everyone_was_heard(
    sayings: list[tuple[Rank, list[int]]], data: st.DataObject
) -> None:
    """Each rank's final word is given; however it arrives, after two full rounds the log is the same."""
    final = dict(sayings)
    final[TARGET] = final.get(TARGET, [])
    orders = [data.draw(st.permutations(list(final.items()))) for _ in range(2)]
    results = set()
    for order in orders:
        log = claimed()
        for rank, tokens in [*order, *order, *order]:
            say(log, rank, ids(*tokens))
        results.add((text(log)[: log.said_from(TARGET)], log.said(TARGET)))
    assert len(results) == 1


@given(sayings=SAYINGS)
def test_no_claim_exceeds_the_log_and_the_target_is_never_undone_by_drafts(
    sayings: list[tuple[Rank, list[int]]],
) -> None:
    log = claimed()
    longest: tuple[TokenId, ...] = ()
    for rank, tokens in sayings:
        say(log, rank, ids(*tokens))
        assert all(log.said(Rank(r)) <= len(log) for r in range(4))
        if rank == TARGET:
            longest = text(log)[: log.said(TARGET)]
        assert text(log)[: len(longest)] == longest


def test_a_new_route_keeps_our_words_and_forgets_who_else_said_them() -> None:
    log = claimed()
    say(log, GATEWAY, ids(1))
    say(log, TARGET, ids(1, 2, 3))
    say(log, DRAFT, ids(1, 2, 3, 4, 5))
    log.forget_claims(MIDDLE)
    log.drop_unsaid(MIDDLE)
    assert text(log) == ids(1, 2, 3)
    assert (log.said(TARGET), log.said(MIDDLE), log.committed) == (1, 3, 1)
    assert say(log, TARGET, ids(1, 8)) is Merge.APPLIED
