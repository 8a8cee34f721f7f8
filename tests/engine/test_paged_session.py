"""Sessions over one pool, against a model in which every slot remembers the whole text that it was computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipespec.engine.blocks import BlockPool
from pipespec.engine.paged_session import ROOT, OutOfBlocks, PagedSession
from pipespec.protocol.ids import Digest, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.tokenlog import mix

NUM_BLOCKS = 8
MAX_SESSIONS = 3
SESSIONS = st.integers(0, MAX_SESSIONS - 1)
TOKENS = st.integers(0, 1).map(TokenId)
Text = tuple[TokenId, ...]


def digest_of(text: Sequence[TokenId]) -> Digest:
    digest = ROOT
    for token in text:
        digest = mix(digest, token)
    return digest


class PagedSessions(RuleBasedStateMachine):
    """Two token ids only, so that prefixes meet often."""

    @initialize(block_size=st.integers(1, 4))
    def make_pool(self, block_size: int) -> None:
        self.size = block_size
        self.pool = BlockPool(NUM_BLOCKS)
        self.slots: dict[tuple[int, int], Text] = {}
        self.sessions: list[PagedSession] = []
        self.num_opened = 0

    @precondition(lambda self: len(self.sessions) < MAX_SESSIONS)
    @rule(prompt=st.lists(TOKENS, min_size=1, max_size=12))
    def open(self, prompt: list[TokenId]) -> None:
        self.num_opened += 1
        session = PagedSession(
            order=self.num_opened, prompt=prompt, sampling=Sampling(), block_size=self.size
        )
        session.adopt(self.pool)
        assert len(session.tokens) < len(prompt)
        self.sessions.append(session)

    @precondition(lambda self: self.sessions)
    @rule(which=SESSIONS, fed=st.lists(TOKENS, min_size=1, max_size=8), unchecked=st.integers(0, 3))
    def feed(self, which: int, fed: list[TokenId], unchecked: int) -> None:
        """The prompt first, as far as it goes; what does not fit waits, with whatever it got."""
        session = self.sessions[which % len(self.sessions)]
        held = len(session.tokens)
        prompt = session.prompt[held : held + len(fed)]
        fed[: len(prompt)] = prompt
        end = held + len(fed)
        if end > NUM_BLOCKS * self.size:
            return
        try:
            copied = session.reserve(self.pool, end)
        except OutOfBlocks:
            assert self.pool.num_available == 0
            return
        if copied is not None:
            self._copy(*copied)
        for token in fed:
            block, offset = session.table[len(session.tokens) // self.size], len(session.tokens) % self.size
            assert self._holders()[block] == 1
            assert block not in self.pool._keys
            session.tokens.append(token)
            self.slots[block, offset] = tuple(session.tokens)
        session.publish(self.pool, end - unchecked)
        for full in range(held // self.size + 1, (end - unchecked) // self.size + 1):
            assert digest_of(session.tokens[: full * self.size]) in self.pool._published

    def _copy(self, source: int, target: int) -> None:
        for offset in range(self.size):
            if (source, offset) in self.slots:
                self.slots[target, offset] = self.slots[source, offset]

    @precondition(lambda self: self.sessions)
    @rule(which=SESSIONS, length=st.integers(0, 12))
    def truncate(self, which: int, length: int) -> None:
        session = self.sessions[which % len(self.sessions)]
        session.truncate(length % (len(session.tokens) + 1))

    @precondition(lambda self: self.sessions)
    @rule(which=SESSIONS, begins_again=st.booleans())
    def release(self, which: int, begins_again: bool) -> None:
        """Closed, or preempted: then it looks for its prompt in the pool when its turn comes."""
        session = self.sessions.pop(which % len(self.sessions))
        session.release(self.pool)
        assert (session.table, session.tokens) == ([], [])
        if begins_again:
            session.adopt(self.pool)
            self.sessions.append(session)

    @invariant()
    def every_block_is_free_or_cached_or_held(self) -> None:
        if not hasattr(self, "pool"):
            return
        held = {block for block, holders in enumerate(self.pool._holders) if holders}
        places = [*self.pool._free, *self.pool._cached, *held]
        assert sorted(places) == list(range(1, NUM_BLOCKS + 1))
        assert self.pool.num_held == len(held)
        assert set(self.pool._cached) <= set(self.pool._keys)
        assert not set(self.pool._free) & set(self.pool._keys)

    @invariant()
    def reference_counts_are_table_entries(self) -> None:
        if hasattr(self, "pool"):
            holders = self._holders()
            assert [holders[block] for block in range(NUM_BLOCKS + 1)] == self.pool._holders
            assert all(len(set(one.table)) == len(one.table) for one in self.sessions)

    @invariant()
    def published_blocks_hold_the_text_of_their_key(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert {block: key for key, block in self.pool._published.items()} == self.pool._keys
        for block, key in self.pool._keys.items():
            text = self.slots[block, self.size - 1]
            assert digest_of(text) == key
            for offset in range(self.size):
                assert self.slots[block, offset] == text[: len(text) - self.size + 1 + offset]

    @invariant()
    def tables_lead_to_what_was_computed_from_the_tokens(self) -> None:
        for session in getattr(self, "sessions", []):
            for position in range(len(session.tokens)):
                slot = session.table[position // self.size], position % self.size
                assert self.slots[slot] == tuple(session.tokens[: position + 1])

    def _holders(self) -> Counter[int]:
        return Counter(block for session in self.sessions for block in session.table)

    def teardown(self) -> None:
        for session in getattr(self, "sessions", []):
            session.release(self.pool)
        if hasattr(self, "pool"):
            assert self.pool.num_held == 0


TestPagedSessions = PagedSessions.TestCase
TestPagedSessions.settings = settings(
    max_examples=100, stateful_step_count=50, derandomize=True, deadline=None, database=None
)


def session_of(*prompt: int, order: int = 1) -> PagedSession:
    return PagedSession(
        order=order, prompt=[TokenId(token) for token in prompt], sampling=Sampling(), block_size=2
    )


def fed(session: PagedSession, pool: BlockPool, *tokens: int) -> tuple[int, int] | None:
    copied = session.reserve(pool, len(session.tokens) + len(tokens))
    session.tokens.extend(TokenId(token) for token in tokens)
    session.publish(pool, len(session.tokens))
    return copied


def test_the_last_token_of_a_prompt_is_never_adopted():
    """Its logits are wanted, and only a token that is fed gives some."""
    pool = BlockPool(8)
    fed(session_of(1, 2, 3, 4), pool, 1, 2, 3, 4)
    for prompt, num_adopted in (((1, 2, 3, 4), 2), ((1, 2, 3, 4, 5), 4), ((1, 2), 0), ((1, 9, 3, 4), 0)):
        session = session_of(*prompt)
        session.adopt(pool)
        assert len(session.tokens) == num_adopted
        session.release(pool)


def test_rolling_back_into_a_shared_block_copies_it():
    pool = BlockPool(8)
    first, second = session_of(1, 2, 3, 4, 5), session_of(1, 2, 3, 4, 6, order=2)
    fed(first, pool, 1, 2, 3, 4, 5)
    second.adopt(pool)
    shared = second.table[1]
    assert shared == first.table[1]
    second.truncate(3)
    copied = fed(second, pool, 9)
    assert copied == (shared, second.table[1])
    assert second.table[1] != shared
    assert first.table[1] == shared


def test_rolling_back_into_an_own_block_takes_it_out_of_the_index():
    pool = BlockPool(8)
    session = session_of(1, 2, 3)
    fed(session, pool, 1, 2, 3, 4)
    session.truncate(3)
    assert fed(session, pool, 5) is None
    other = session_of(1, 2, 3, 4, 5, order=2)
    other.adopt(pool)
    assert len(other.tokens) == 2


def test_blocks_beyond_a_cut_stay_with_the_session():
    pool = BlockPool(4)
    session = session_of(1)
    fed(session, pool, 1, 2, 3, 4, 5, 6)
    before = list(session.table)
    session.truncate(1)
    fed(session, pool, 9)
    assert session.table == before


def test_reserving_more_than_there_is_keeps_what_was_there():
    pool = BlockPool(2)
    session = session_of(1)
    with pytest.raises(OutOfBlocks):
        session.reserve(pool, 5)
    assert len(session.table) == 2
    session.release(pool)
    assert pool.num_held == 0


def test_the_beginning_of_a_released_prefix_is_evicted_last() -> None:
    pool = BlockPool(3)
    prompt = [TokenId(token) for token in range(7)]
    session = PagedSession(order=1, prompt=prompt, sampling=Sampling(), block_size=2)
    session.reserve(pool, 6)
    session.tokens.extend(prompt[:6])
    session.publish(pool, 6)
    session.release(pool)
    assert pool.take() is not None
    session.adopt(pool)
    assert session.tokens == prompt[:4]
