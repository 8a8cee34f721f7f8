"""Where a replica stands in its chain, what it can serve, and what the fleet hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipespec.protocol.ids import Rank, TokenId, Topic, stage_inbox
from pipespec.protocol.messages import ChainIdentity, Heartbeat, Open, StageCounters


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica stands and what it runs.

    Attributes:
        rank: its stage.
        replica: its name within the stage.
        num_stages: length of its chain.
        weights: digest of its weights, empty without a model.
        tokenizer: digest of its vocabulary, empty where any will do.
        vocab_size: ids that it can read are below it; 0 where any will do.
        max_sessions: more are refused.
    """

    rank: Rank
    replica: str
    num_stages: int
    weights: bytes = b""
    tokenizer: bytes = b""
    vocab_size: int = 0
    max_sessions: int = 64

    @property
    def inbox(self) -> Topic:
        """Where it is reached."""
        return stage_inbox(self.rank, self.replica)

    def heartbeat(
        self,
        *,
        model: str,
        context_len: int,
        draining: bool,
        turn: int,
        sessions: int,
        counters: StageCounters,
    ) -> Heartbeat:
        """What the fleet hears of a replica at this place; arguments as of the message."""
        return Heartbeat(
            rank=self.rank,
            replica=self.replica,
            ready=not draining,
            draining=draining,
            model=model,
            weights=self.weights,
            tokenizer=self.tokenizer,
            vocab_size=self.vocab_size,
            context_len=context_len,
            num_stages=self.num_stages,
            turn=turn,
            sessions=sessions,
            max_sessions=self.max_sessions,
            counters=counters,
        )

    def serves(self, message: Open) -> bool:
        """Whether the session belongs to this chain and this replica can read its tokens."""
        identity: ChainIdentity = message.identity
        is_target = self.rank == self.num_stages - 1
        return (
            len(message.route) == self.num_stages
            and self.tokenizer in (b"", identity.tokenizer)
            and (not is_target or self.weights == identity.weights)
            and self.reads(message.prompt)
            and self.reads(message.committed)
        )

    def reads(self, tokens: Sequence[TokenId]) -> bool:
        """Whether all ids are in its vocabulary; a padded target may know more ids than its draft."""
        return self.vocab_size == 0 or max(tokens, default=0) < self.vocab_size
