"""Three rules at the smallest scale that shows them: the digest, the rank, the incarnation.

All rules are turned off in ``tests/sim/test_switches.py``, where some seed then fails; these cover for others there most of the time.
"""

from __future__ import annotations

import pytest

from pipespec.protocol.claims import ClaimedLog, Merge
from pipespec.protocol.gateway_session import Commit, GatewaySession
from pipespec.protocol.ids import Digest, Epoch, Incarnation, Position, Rank, stage_inbox
from pipespec.protocol.messages import Envelope, Segment, SegmentKind
from pipespec.protocol.peers import Peers
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.tokenlog import TokenLog
from protocol.examples import SESSION, ids
from protocol.test_tokenlog import IDENTITY

DRAFT, TARGET = Rank(0), Rank(1)


@pytest.mark.parametrize("on", [True, False])
def test_the_digest_keeps_a_replica_of_another_prefix_from_being_committed(on: bool) -> None:
    session = GatewaySession(
        SESSION,
        now=0.0,
        prompt=ids(1, 2),
        sampling=Sampling(max_tokens=9),
        identity=IDENTITY,
        vocab_size=10,
        route=("a", "b"),
        speculate=True,
        rules=Rules(check_digest=on),
    )
    skewed = Segment(
        SegmentKind.VERIFICATION, SESSION, Epoch(0), Position(0), Digest(b"another prompt.."), ids(7)
    )
    assert session.on_segment(0.0, skewed) is (Commit.FORKED if on else Commit.EXTENDED)
    assert session.committed == (0 if on else 1)


@pytest.mark.parametrize("on", [True, False])
def test_a_later_rank_is_not_undone_by_a_draft_that_has_not_heard_of_it(on: bool) -> None:
    log = ClaimedLog(TokenLog(IDENTITY, ids(1)), num_stages=2, rules=Rules(later_rank_wins=on))
    digest = log.log.digest_at(0)
    log.merge(TARGET, base=Position(0), digest=digest, tokens=ids(5, 6))
    late = log.merge(DRAFT, base=Position(0), digest=digest, tokens=ids(5, 9))
    assert late is (Merge.STALE if on else Merge.APPLIED)
    assert log.said(TARGET) == (2 if on else 1)


@pytest.mark.parametrize("on", [True, False])
def test_only_a_silent_process_is_succeeded_by_another_under_its_name(on: bool) -> None:
    peers = Peers(Rules(fence_incarnations=on), dead_s=2.0)
    segment = Segment(SegmentKind.SPECULATION, SESSION, Epoch(0), Position(0), Digest(bytes(16)), ids(1))

    def accepts(now: float, incarnation: int, number: int) -> bool:
        envelope = Envelope(stage_inbox(DRAFT, "a"), Incarnation(incarnation), number, segment)
        return peers.accept(now, envelope)

    assert accepts(0.0, 1, 1)
    assert accepts(1.0, 2, 1) is not on  # a stray message takes nobody's place
    assert accepts(2.0, 1, 2)
    assert accepts(4.1, 2, 2)  # silent for long enough: restarted
    assert accepts(4.2, 1, 3) is not on  # what the former still had in flight
    assert accepts(4.3, 2, 2) is not on
