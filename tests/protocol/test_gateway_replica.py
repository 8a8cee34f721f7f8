"""The gateway's core: it owns the committed prefix, routes, and answers who is behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipespec.ops.errors import Overloaded, Unavailable
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import MAX_STATE_ENTRIES, Committed, Ended, GatewayReplica, Skewed
from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Incarnation,
    Position,
    Rank,
    SessionId,
    TokenId,
    Topic,
    gateway_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import (
    ChainIdentity,
    Close,
    EndReason,
    Envelope,
    Finished,
    GatewayHeartbeat,
    Heartbeat,
    Message,
    Open,
    Segment,
    SegmentKind,
    StageCounters,
    State,
    Sync,
)
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.timers import Timers
from pipespec.protocol.tokenlog import TokenLog
from protocol.examples import SESSION, ids

TIMERS = Timers(heartbeat_s=0.1, dead_s=0.5, stall_s=1.0, lease_s=5.0, sync_s=0.025)
TOKENIZER, WEIGHTS = b"t" * 16, b"w" * 16


class Bench:
    """A gateway core with hand-made stages around it."""

    def __init__(self, timers: Timers = TIMERS) -> None:
        self.core = GatewayReplica(Fleet(num_stages=2, tokenizer=TOKENIZER, timers=timers), timers)
        self.now = 0.0
        self.number = 0

    def hear(self, sender: Topic, message: Message) -> list[tuple[Topic, Message]]:
        self.number += 1
        self.core.on_envelope(self.now, Envelope(sender, Incarnation(1), self.number, message))
        return self.core.outbox.take()

    def beat(self, rank: int, replica: str = "r0", **changes: object) -> None:
        fields: dict[str, object] = {
            "rank": Rank(rank),
            "replica": replica,
            "ready": True,
            "draining": False,
            "model": "m",
            "weights": WEIGHTS,
            "tokenizer": TOKENIZER,
            "vocab_size": 100,
            "context_len": 100,
            "num_stages": 2,
            "turn": self.number,
            "sessions": 0,
            "max_sessions": 64,
            "counters": StageCounters(),
        }
        beat = Heartbeat(**{**fields, **changes})  # type: ignore[arg-type]
        self.hear(stage_inbox(Rank(rank), replica), beat)

    def open(self, session: SessionId = SESSION, **sampling: object) -> list[tuple[Topic, Message]]:
        params = Sampling(**{"max_tokens": 10, **sampling})  # type: ignore[arg-type]
        self.core.open(self.now, session, prompt=ids(1, 2), sampling=params)
        return self.core.outbox.take()

    def say(
        self, base: int, *tokens: int, prefix: tuple[TokenId, ...] = (), epoch: int = 0, replica: str = "r0"
    ) -> list[tuple[Topic, Message]]:
        log = TokenLog(ChainIdentity(WEIGHTS, TOKENIZER), ids(1, 2))
        log.extend(prefix)
        segment = Segment(
            SegmentKind.VERIFICATION, SESSION, Epoch(epoch), Position(base), log.digest_at(base), ids(*tokens)
        )
        return self.hear(stage_inbox(Rank(1), replica), segment)

    def events(self) -> list[object]:
        events, self.core.events = self.core.events, []
        return list(events)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.beat(0)
    bench.beat(1)
    return bench


def test_without_a_target_a_session_is_refused_with_the_reason() -> None:
    bench = Bench()
    bench.beat(0)
    with pytest.raises(Unavailable, match="target"):
        bench.open()


def test_without_a_draft_a_session_runs_on_the_target_alone() -> None:
    bench = Bench()
    bench.beat(1)
    assert [topic for topic, _ in bench.open()] == [stage_inbox(Rank(1), "r0")]


def test_what_fits_is_committed_once_and_told_to_every_stage(bench: Bench) -> None:
    bench.open()
    sends = bench.say(0, 7, 8)
    assert bench.events() == [Committed(SESSION, Position(0), ids(7, 8))]
    assert [topic for topic, _ in sends] == [stage_inbox(Rank(0), "r0"), stage_inbox(Rank(1), "r0")]
    assert all(isinstance(message, State) and message.entries[0].committed == 2 for _, message in sends)
    assert bench.say(0, 7, 8) == []
    bench.say(0, 7, 8, 9)
    assert bench.events() == [Committed(SESSION, Position(2), ids(9))]


def test_what_is_committed_is_never_changed(bench: Bench) -> None:
    bench.open()
    bench.say(0, 7, 8)
    sends = bench.say(0, 7, 9, 9)
    assert bench.core.counts["forked"] == 1
    assert bench.core.sessions[SESSION].tokens(0, 5) == ids(7, 8)
    assert [topic for topic, _ in sends] == [stage_inbox(Rank(1), "r0")]


def test_a_forged_digest_or_a_segment_beyond_the_end_changes_nothing(bench: Bench) -> None:
    bench.open()
    bench.say(0, 7)
    bench.say(1, 8, prefix=ids(6))
    bench.say(3, 8, prefix=ids(7, 8, 9))
    bench.say(1, 8, prefix=ids(7), epoch=1)
    bench.say(1, 8, prefix=ids(7), replica="stranger")
    assert bench.core.sessions[SESSION].tokens(0, 5) == ids(7)


def test_a_session_ends_at_its_stop_id_or_length_and_every_stage_is_told(bench: Bench) -> None:
    bench.open(stop_ids=(5,))
    sends = bench.say(0, 7, 5, 8)
    assert bench.events() == [
        Committed(SESSION, Position(0), ids(7, 5)),
        Ended(SESSION, EndReason.STOP, ("r0", "r0")),
    ]
    assert all(isinstance(message, Close) for _, message in sends)
    assert len(sends) == 2
    assert SESSION not in bench.core.sessions


def test_sync_is_answered_with_a_tail_where_the_digest_fits_else_with_the_whole_session(bench: Bench) -> None:
    bench.open()
    bench.say(0, *range(10, 19))
    draft = stage_inbox(Rank(0), "r0")
    digest = bench.core.sessions[SESSION].open_message()
    log = TokenLog(digest.identity, digest.prompt)
    ((topic, answer),) = bench.hear(draft, Sync(SESSION, Epoch(0), Position(0), log.digest_at(0)))
    assert topic == draft
    assert isinstance(answer, State)
    assert answer.entries[0].tail == ids(*range(10, 19))
    for bad in (
        Sync(SESSION, Epoch(0), Position(0), Digest(bytes(16))),
        Sync(SESSION, Epoch(9), Position(0), log.digest_at(0)),
    ):
        bench.now += TIMERS.sync_s
        ((_, answer),) = bench.hear(draft, bad)
        assert isinstance(answer, Open)
        assert answer.committed == ids(*range(10, 19))


def test_a_flood_of_syncs_is_answered_as_often_as_an_honest_stage_asks(bench: Bench) -> None:
    bench.open()
    asked = Sync(SESSION, Epoch(0), Position(0), Digest(bytes(16)))
    answers = 0
    for _ in range(1000):
        answers += len(bench.hear(stage_inbox(Rank(0), "r0"), asked))
        bench.now += TIMERS.sync_s / 1000
    assert answers == 2
    assert bench.core.counts["sync_too_soon"] == 998
    assert len(bench.hear(stage_inbox(Rank(1), "r0"), asked)) == 1  # nobody else has to wait for it


def test_a_dead_target_is_replaced_and_the_committed_prefix_goes_along(bench: Bench) -> None:
    bench.beat(1, "r1")
    bench.open()
    bench.say(0, 7)
    bench.now = 0.7
    bench.beat(0)
    bench.beat(1, "r1")
    bench.core.on_timer(bench.now)
    sends = bench.core.outbox.take()
    opens = [
        message
        for topic, message in sends
        if isinstance(message, Open) and topic == stage_inbox(Rank(1), "r1")
    ]
    assert [(message.epoch, message.committed) for message in opens] == [(1, ids(7))]
    bench.say(1, 8, prefix=ids(7), epoch=0)
    assert bench.core.sessions[SESSION].committed == 1
    bench.say(1, 8, prefix=ids(7), epoch=1, replica="r1")
    assert bench.core.sessions[SESSION].committed == 2


def test_a_stalled_target_is_replaced_although_it_beats(bench: Bench) -> None:
    bench.beat(1, "r1")
    bench.open()
    for step in range(12):
        bench.now = step / 10
        bench.beat(0)
        bench.beat(1)
        bench.beat(1, "r1")
        bench.core.on_timer(bench.now)
    assert bench.core.sessions[SESSION].route == ("r0", "r1")


def test_a_draft_that_refuses_is_left_out_and_a_target_that_refuses_ends_the_session(bench: Bench) -> None:
    bench.open()
    refusal = Finished(SESSION, Epoch(0), Rank(0), EndReason.REFUSED, StageCounters())
    bench.hear(stage_inbox(Rank(0), "r0"), refusal)
    assert bench.core.sessions[SESSION].route == ("", "r0")
    refusal = Finished(SESSION, Epoch(1), Rank(1), EndReason.REFUSED, StageCounters())
    bench.hear(stage_inbox(Rank(1), "r0"), refusal)
    assert Ended(SESSION, EndReason.REFUSED, ("", "r0")) in bench.events()


def test_replicas_of_another_chain_get_no_work(bench: Bench) -> None:
    bench.beat(0, "skewed", tokenizer=b"x" * 16)
    bench.beat(1, "longer", num_stages=3)
    bench.beat(1, "full", draining=True)
    assert {replica for _, replica in bench.core.fleet.incompatible} == {"skewed", "longer"}
    for index in range(4):
        bench.open(SessionId(bytes([index]) * 16))
    routes = {session.route for session in bench.core.sessions.values()}
    assert routes == {("r0", "r0")}


@pytest.mark.parametrize("unsaid", [{"weights": b""}, {"vocab_size": 0}, {"context_len": 0}])
def test_a_target_that_does_not_say_what_it_is_gets_no_work(unsaid: dict[str, object]) -> None:
    bench = Bench()
    bench.beat(1, **unsaid)
    with pytest.raises(Unavailable):
        bench.open()
    assert len(bench.core.fleet.incompatible) == 1


def test_sessions_go_to_the_least_loaded_replica(bench: Bench) -> None:
    bench.beat(1, "r1")
    for index in range(4):
        bench.open(SessionId(bytes([index]) * 16))
    targets = [session.route[1] for session in bench.core.sessions.values()]
    assert sorted(targets) == ["r0", "r0", "r1", "r1"]


def test_a_second_session_with_the_same_beginning_goes_where_the_first_one_went(bench: Bench) -> None:
    bench.beat(1, "r1")
    system = ids(*range(90))  # more than a block
    for index in range(3):
        session = SessionId(bytes([index]) * 16)
        bench.core.open(bench.now, session, prompt=(*system, *ids(index)), sampling=Sampling(max_tokens=4))
    first, second, third = (session.route[1] for session in bench.core.sessions.values())
    assert first == second  # two of three are its share of two replicas, and a quarter more
    assert third != first


def test_a_replica_that_the_cluster_takes_away_gets_nothing_and_loses_what_it_has(bench: Bench) -> None:
    bench.beat(1, "r1")
    bench.open()
    (session,) = bench.core.sessions.values()
    assert session.route[1] == "r0"
    bench.core.fleet.on_endings(frozenset({(Rank(1), "r0")}))
    bench.now += TIMERS.dead_s * 1.1
    for replica in ("r0", "r1"):
        bench.beat(1, replica)
    bench.core.on_timer(bench.now)
    assert session.route[1] == "r1"
    bench.core.fleet.on_endings(frozenset())  # its pod is back under the same name
    bench.open(SessionId(b"2" * 16))
    assert bench.core.sessions[SessionId(b"2" * 16)].route[1] == "r0"


def test_progress_counts_what_sessions_waited_for_between_their_commits(bench: Bench) -> None:
    bench.open()
    bench.now = 5.0  # the prompt is read: not decoding time
    bench.say(0, 7, 8)
    bench.now = 5.5
    bench.say(2, 9, prefix=ids(7, 8))
    progress = bench.core.progress
    assert (progress.tokens, progress.followed, progress.followed_s) == (3, 1, 0.5)


def test_heartbeats_of_gateways_are_no_news_to_a_gateway(bench: Bench) -> None:
    before = dict(bench.core.counts)
    bench.hear(gateway_inbox("g1"), GatewayHeartbeat("g1", True, False, 1, 64, 0, 0, 0, 0))
    assert dict(bench.core.counts) == before


def test_states_of_all_sessions_of_a_replica_go_in_one_message(bench: Bench) -> None:
    for index in range(5):
        bench.open(SessionId(bytes([index]) * 16))
    bench.core.on_timer(bench.now)
    states = [message for _, message in bench.core.outbox.take() if isinstance(message, State)]
    assert [len(state.entries) for state in states] == [5, 5]


def test_ten_thousand_sessions_are_told_in_a_few_messages_per_replica(bench: Bench) -> None:
    for rank in range(2):
        bench.beat(rank, max_sessions=10_000)
    for index in range(10_000):
        bench.open(SessionId(index.to_bytes(16, "big")))
    bench.core.on_timer(bench.now)
    states = [message for _, message in bench.core.outbox.take() if isinstance(message, State)]
    assert len(states) == 2 * -(-10_000 // MAX_STATE_ENTRIES)
    assert sum(len(state.entries) for state in states) == 2 * 10_000


def test_a_session_that_has_ended_makes_room_before_its_replica_says_so(bench: Bench) -> None:
    bench.beat(1, max_sessions=1)
    bench.open()
    bench.beat(1, max_sessions=1, sessions=1)
    assert bench.core.fleet.room(bench.now) == 0
    bench.core.close(SESSION, EndReason.CANCELLED)
    assert bench.core.fleet.room(bench.now) == 1
    bench.beat(1, max_sessions=1, sessions=1)  # it is in the middle of a step and has not heard of it
    bench.open(SessionId(b"2" * 16))


def test_sessions_of_other_gateways_take_room_too(bench: Bench) -> None:
    bench.open()
    bench.beat(1, max_sessions=4, sessions=3)
    assert bench.core.fleet.room(bench.now) == 1


def test_patience_covers_prefill_and_doubles_so_that_slow_targets_do_not_pass_a_session_for_ever() -> None:
    slow = Bench(
        replace(TIMERS, prefill_s_per_token=1.0)
    )  # the prompt has two tokens: stall after 1 + 2 seconds
    for replica in ("r0", "r1"):
        slow.beat(1, replica)
    slow.beat(0)
    slow.open()
    changes: list[float] = []
    route = slow.core.sessions[SESSION].route
    for tenth in range(250):
        slow.now = tenth / 10
        slow.beat(0)
        slow.beat(1, "r0")
        slow.beat(1, "r1")
        slow.core.on_timer(slow.now)
        if slow.core.sessions[SESSION].route != route:
            route = slow.core.sessions[SESSION].route
            changes.append(slow.now)
    assert [round(change) for change in changes] == [3, 9, 21]


def test_a_finished_from_nowhere_changes_nothing(bench: Bench) -> None:
    bench.open()
    for rank, sender in [
        (9, stage_inbox(Rank(1), "r0")),
        (0, stage_inbox(Rank(1), "r0")),
        (1, stage_inbox(Rank(1), "x")),
    ]:
        bench.hear(sender, Finished(SESSION, Epoch(0), Rank(rank), EndReason.REFUSED, StageCounters()))
    assert bench.core.sessions[SESSION].route == ("r0", "r0")


def test_a_full_target_is_asked_again_and_a_full_fleet_takes_no_new_session(bench: Bench) -> None:
    bench.open()
    full = Finished(SESSION, Epoch(0), Rank(1), EndReason.FULL, StageCounters())
    bench.hear(stage_inbox(Rank(1), "r0"), full)
    assert SESSION in bench.core.sessions
    bench.beat(1, max_sessions=1)
    with pytest.raises(Overloaded, match="try again"):
        bench.open(SessionId(b"2" * 16))
    bench.beat(1, "r1", max_sessions=1)
    bench.open(SessionId(b"2" * 16))
    assert bench.core.sessions[SessionId(b"2" * 16)].route == ("r0", "r1")


def test_a_target_that_hears_no_state_loses_the_session_at_once(bench: Bench) -> None:
    bench.open()
    bench.beat(1, "r1")
    expired = Finished(SESSION, Epoch(0), Rank(1), EndReason.EXPIRED, StageCounters())
    bench.hear(stage_inbox(Rank(1), "r0"), expired)
    assert bench.core.sessions[SESSION].route == ("r0", "r1")


def test_a_full_draft_is_left_out_for_a_while_and_comes_back(bench: Bench) -> None:
    bench.open()
    full = Finished(SESSION, Epoch(0), Rank(0), EndReason.FULL, StageCounters())
    bench.hear(stage_inbox(Rank(0), "r0"), full)
    assert bench.core.sessions[SESSION].route == ("", "r0")
    bench.now = 0.7
    bench.beat(0)
    bench.beat(1)
    bench.core.on_timer(bench.now)
    assert bench.core.sessions[SESSION].route == ("r0", "r0")


def test_a_replica_whose_loop_stands_still_gets_no_work_although_it_beats() -> None:
    bench = Bench(replace(TIMERS, hung_s=2.0))
    for tenth in range(30):
        bench.now = tenth / 10
        bench.beat(0, turn=7)
        bench.beat(1)
    bench.open()
    assert bench.core.sessions[SESSION].route == ("", "r0")


def test_a_draining_target_gives_its_sessions_away_at_once(bench: Bench) -> None:
    bench.open()
    bench.say(0, 7)
    bench.now = 0.6
    bench.beat(0)
    bench.beat(1, draining=True, ready=False)
    bench.beat(1, "r1")
    bench.core.on_timer(bench.now)
    assert bench.core.sessions[SESSION].route == ("r0", "r1")


def test_a_target_with_other_weights_is_incompatible_and_told_once(bench: Bench) -> None:
    bench.events()
    for _ in range(3):
        bench.beat(1, "other", weights=b"x" * 16)
    skewed = [event for event in bench.events() if isinstance(event, Skewed)]
    assert [(event.beat.replica, event.beat.weights) for event in skewed] == [("other", b"x" * 16)]


def test_without_any_target_sessions_end_with_lost_after_a_bounded_wait() -> None:
    bench = Bench(replace(TIMERS, lost_s=3.0))
    bench.beat(0)
    bench.beat(1)
    bench.core.on_timer(0.0)
    bench.open()
    for tenth in range(1, 40):
        bench.now = tenth / 10
        bench.beat(0)
        bench.core.on_timer(bench.now)
        assert SESSION in bench.core.sessions or bench.now > 3.0
    assert Ended(SESSION, EndReason.LOST, ("r0", "r0")) in bench.events()


def test_a_gateway_that_slept_gives_no_session_up_for_what_it_did_not_hear() -> None:
    bench = Bench(replace(TIMERS, lost_s=3.0))
    bench.beat(1)
    bench.core.on_timer(0.0)
    bench.open()
    bench.core.on_timer(3600.0)
    assert SESSION in bench.core.sessions


def test_no_session_is_lost_while_another_of_its_weights_commits() -> None:
    """Found by simulation: the right target came back, said eighteen tokens and was given up before its heartbeat came."""
    bench = Bench(replace(TIMERS, lost_s=3.0))
    bench.beat(1)
    bench.open()
    bench.open(SessionId(b"2" * 16))
    for tenth in range(45):
        bench.now = tenth / 10
        if tenth == 29:
            bench.say(0, 7)
        bench.core.on_timer(bench.now)
    assert len(bench.core.sessions) == 2


def test_a_session_is_lost_when_only_targets_of_other_weights_are_left() -> None:
    bench = Bench(replace(TIMERS, lost_s=3.0))
    bench.beat(1)
    bench.open()
    for tenth in range(45):
        bench.now = tenth / 10
        bench.beat(1, "r1", weights=b"x" * 16)
        bench.core.on_timer(bench.now)
    assert bench.core.fleet.weights == b"x" * 16
    assert SESSION not in bench.core.sessions


def test_a_session_goes_on_at_a_replica_of_its_weights_that_new_sessions_do_not_get() -> None:
    """Found by simulation: the only target that could go on was locked out, since another model had taken over."""
    bench = Bench()
    bench.beat(1)
    bench.open()
    for tenth in range(30):
        bench.now = tenth / 10
        bench.beat(1, "r1", weights=b"x" * 16)
        if tenth > 15:
            bench.beat(1, "r2")
        bench.core.on_timer(bench.now)
    assert bench.core.sessions[SESSION].route[-1] == "r2"
    assert (Rank(1), "r2") in bench.core.fleet.incompatible


def test_tokens_are_checked_against_the_vocabulary_of_the_sessions_own_target() -> None:
    """New sessions may get another model by then; with a smaller vocabulary, what the old one says would not be heard."""
    bench = Bench()
    bench.beat(1)
    bench.open()
    for tenth in range(10):  # the old target falls silent, a smaller model takes over, the old one is back
        bench.now = tenth / 10
        bench.beat(1, "r1", weights=b"x" * 16, vocab_size=50)
    bench.beat(1)
    assert bench.core.fleet.vocab_size == 50
    bench.events()
    bench.say(0, 99)
    bench.say(1, 100, prefix=ids(99))
    assert [event for event in bench.events() if isinstance(event, Committed)] == [
        Committed(SESSION, Position(0), ids(99))
    ]
    assert bench.core.counts["token_out_of_range"] == 1


def test_the_move_of_a_draft_gives_a_stalled_target_no_more_time() -> None:
    """RELIABILITY R11: drafts that come and go kept a deaf target in office for ever."""
    bench = Bench(replace(TIMERS, dead_s=0.2))
    for replica in ("r0", "r1"):
        bench.beat(1, replica)
    bench.beat(0, "d0")
    bench.open()
    first = bench.core.sessions[SESSION].route[-1]
    for tenth in range(1, 13):
        bench.now = tenth / 10
        for replica in ("r0", "r1"):
            bench.beat(1, replica)
        bench.beat(0, f"d{tenth // 3}")  # another one every 0.3 s
        bench.core.on_timer(bench.now)
    session = bench.core.sessions[SESSION]
    assert session.epoch >= 2  # the draft was moved
    assert session.route[-1] != first


def test_a_refusal_by_an_impostor_of_the_target_does_not_end_the_session(bench: Bench) -> None:
    """A wrong rollout takes the target's name; the session waits for the right one, for as long as for a dead one."""
    bench.open()
    bench.beat(1, tokenizer=b"z" * 16)
    refusal = Finished(SESSION, Epoch(0), Rank(1), EndReason.REFUSED, StageCounters())
    bench.hear(stage_inbox(Rank(1), "r0"), refusal)
    assert SESSION in bench.core.sessions


def test_a_session_that_rests_tries_every_target_before_one_a_second_time() -> None:
    """Found by simulation: of three targets two were deaf, and passed the session back and forth for ever."""
    bench = Bench()
    replicas = ("r0", "r1", "r2")
    for replica in replicas:
        bench.beat(1, replica)
    bench.open()
    tried = []
    for tenth in range(1, 75):  # suspected after 1, 2 and 4 s
        bench.now = tenth / 10
        for replica in replicas:
            bench.beat(1, replica)
        bench.core.on_timer(bench.now)
        route = bench.core.sessions[SESSION].route
        if not tried or tried[-1] != route[-1]:
            tried.append(route[-1])
    assert sorted(tried[:3]) == list(replicas)
    assert len(tried) == 4  # then from the beginning
