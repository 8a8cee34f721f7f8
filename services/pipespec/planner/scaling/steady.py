"""What sharing brings, by the token-level simulator: streams that are all there all the time, so many on every replica.

Exact where the closed forms of ``capacity`` are not, and a hundred times slower: about a second of computing time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, stdev

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.arrivals import Arrivals
from pipespec.planner.scaling.capacity import Shares
from pipespec.planner.simulation.clients import Request
from pipespec.planner.simulation.run import simulate
from pipespec.planner.variants import with_replicas

PIECE = 128
"""Tokens of a text that the spread is of: about what an answer has."""
_PIECES = 4
_FIRST = 32
"""Tokens left out: sessions that begin together go in step for a while."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of streams that all share alike.

    Attributes:
        ms_per_token: mean.
        spread: standard deviation over texts of ``PIECE`` tokens, as a fraction of the mean.
        busy: share of its time that a replica of each stage is in steps.
    """

    ms_per_token: float
    spread: float
    busy: tuple[float, ...]


def steady_speed(chain: Pipeline, shares: Shares, *, sessions: int = 16) -> Speed:
    """Simulate a chain.

    Args:
        chain: of emulated stages, all of which take part.
        shares: sessions per replica of every stage.
        sessions: at least so many, and as many as the largest share.
    """
    count = max(sessions, *shares)
    replicas = [-(-count // share) for share in shares]
    requests = [Request((3 + n, 7), PIECE * _PIECES + _FIRST) for n in range(count)]
    result = simulate(with_replicas(chain, replicas, max_sessions=count), requests)
    first_end_s = min(session.at_s[-1] for session in result.load.sessions)
    pieces = [ms for session in result.load.sessions for ms in _pieces(session, until_s=first_end_s)]
    return Speed(mean(pieces), stdev(pieces) / mean(pieces), tuple(stage.busy for stage in result.stages))


def _pieces(session: Arrivals, *, until_s: float) -> Iterator[float]:
    """Milliseconds per token of a session's pieces while all other sessions were there too; of the first one in any case."""
    for start in range(_FIRST, len(session.at_s) - PIECE + 1, PIECE):
        end = min(start + PIECE, len(session.at_s) - 1)
        if start == _FIRST or session.at_s[end] <= until_s:
            yield 1e3 * (session.at_s[end] - session.at_s[start]) / (end - start)
