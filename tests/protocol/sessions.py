"""One session of a chain of three, from the inside: what is said to it, and its steps."""

from __future__ import annotations

from pipespec.protocol.ids import Epoch, Position, Rank, TokenId, gateway_inbox
from pipespec.protocol.messages import ChainIdentity, Open, Segment, SegmentKind, SessionState
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_session import StageLimits, StageSession
from pipespec.protocol.work import Outcome, Work
from protocol.examples import SESSION, ids

GATEWAY = gateway_inbox("g0")
LIMITS = StageLimits(lookahead=4, max_chunk=8, context_len=100)


def opened(
    rank: int,
    *,
    prompt: tuple[TokenId, ...] = ids(1, 2, 3),
    limits: StageLimits = LIMITS,
    route: tuple[str, ...] = ("a", "b", "c"),
    **sampling: object,
) -> StageSession:
    """The session at the stage with this rank."""
    message = Open(
        session=SESSION,
        epoch=Epoch(0),
        route=route,
        identity=ChainIdentity(b"w" * 16, b"t" * 16),
        prompt=prompt,
        sampling=Sampling(**{"max_tokens": 50, **sampling}),  # type: ignore[arg-type]
        committed=(),
    )
    return StageSession(message, rank=Rank(rank), gateway=GATEWAY, limits=limits, rules=Rules())


def hear(session: StageSession, rank: int, *tokens: int, base: int = 0) -> None:
    """The stage with this rank says tokens from a base on."""
    digest = session.claims.log.digest_at(base)
    segment = Segment(SegmentKind.SPECULATION, SESSION, session.epoch, Position(base), digest, ids(*tokens))
    session.on_segment(Rank(rank), segment)


def commit(session: StageSession, length: int) -> None:
    """The gateway has committed so many."""
    digest = session.claims.log.digest_at(length)
    session.on_state(SessionState(SESSION, session.epoch, Position(length), digest, ()))


def done(work: Work, picks: tuple[TokenId, ...] | list[TokenId]) -> Outcome:
    """A step's outcome in which all was fed."""
    return Outcome(picks, held=work.start + len(work.tokens))


def run(session: StageSession, *picks: int) -> None:
    """One step, answered with these picks."""
    work = session.work(max_tokens=99)
    assert work is not None
    session.on_outcome(work, done(work, ids(*picks)), busy_us=1)
