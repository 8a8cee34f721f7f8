"""The cheapest replicas of all stages together with which streams keep a time per token.

What a draft says depends on the stages before it and nothing else, so chains are built stage by stage: of the beginnings that
cost as much or more and are no faster, only the better one is gone on with. Shares are looked at on a grid that gets coarser as
they grow, rounded up, so that what was worked out once serves many loads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipespec.planner.scaling.capacity import Capacity, Shares

_EXACT = 16
"""Shares up to this are looked at one by one; then each is an eighth larger than the one before."""


@dataclass(frozen=True, slots=True)
class Range:
    """What one stage may have.

    Attributes:
        least: replicas.
        most: replicas.
        gpus: of a replica.
        max_sessions: that a replica may hold.
    """

    least: int
    most: int
    gpus: float
    max_sessions: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas of the stages of one chain.

    Attributes:
        chain: ranks of its stages.
        replicas: of each of these.
        gpus: that they occupy.
        ms_per_token: of a stream, as ``Capacity`` says.
    """

    chain: tuple[int, ...]
    replicas: tuple[int, ...]
    gpus: float
    ms_per_token: float


def share_of(sessions: int, replicas: int) -> int:
    """Sessions on the fullest replica, on the grid."""
    share = -(-max(1, sessions) // replicas)
    point = _EXACT
    if share <= point:
        return share
    while point < share:
        point += max(1, point // 8)
    return point


@dataclass(frozen=True, slots=True)
class _Beginning:
    replicas: tuple[int, ...]
    shares: Shares
    gpus: float


def cheapest(
    capacity: Capacity,
    chain: tuple[int, ...],
    ranges: Sequence[Range],
    sessions: int,
    *,
    keeps: Callable[[float], bool],
) -> Plan | None:
    """Replicas of one chain that cost least; of those that cost the same, the fastest.

    Args:
        capacity: of the chain.
        chain: ranks of its stages.
        ranges: of each of these.
        sessions: open at once.
        keeps: whether a time per token is good enough.

    Returns:
        None where no replicas within the ranges are.
    """
    beginnings: Iterable[_Beginning] = (_Beginning((), (), 0.0),)
    for limits in ranges[:-1]:
        beginnings = _undominated(capacity, list(_longer(beginnings, limits, sessions)))
    best: Plan | None = None
    least_gpus = ranges[-1].gpus * ranges[-1].least
    for beginning in beginnings:
        if best is not None and beginning.gpus + least_gpus > best.gpus:
            break
        plan = _completed(capacity, chain, beginning, ranges[-1], sessions, keeps)
        if plan is not None and (best is None or _cost(plan) < _cost(best)):
            best = plan
    return best


def _cost(plan: Plan) -> tuple[float, float]:
    return plan.gpus, plan.ms_per_token


def _longer(beginnings: Iterable[_Beginning], limits: Range, sessions: int) -> Iterator[_Beginning]:
    for beginning in beginnings:
        for replicas in _options(limits, sessions):
            yield _with(beginning, replicas, sessions, limits)


def _options(limits: Range, sessions: int) -> list[int]:
    """Replicas that differ in their share, ascending: the fewest of each share; more than one for each session help nobody."""
    least = max(1, limits.least, -(-sessions // limits.max_sessions))
    options: list[int] = []
    for replicas in range(least, min(limits.most, max(least, sessions)) + 1):
        if not options or share_of(sessions, replicas) < share_of(sessions, options[-1]):
            options.append(replicas)
    return options


def _with(beginning: _Beginning, replicas: int, sessions: int, limits: Range) -> _Beginning:
    return _Beginning(
        (*beginning.replicas, replicas),
        (*beginning.shares, share_of(sessions, replicas)),
        beginning.gpus + replicas * limits.gpus,
    )


def _undominated(capacity: Capacity, beginnings: list[_Beginning]) -> Iterator[_Beginning]:
    """The cheapest first, each faster than all before; nothing is worked out before it is asked for."""
    fastest = math.inf
    for one in sorted(beginnings, key=lambda one: one.gpus):
        ms = capacity.rate(one.shares).ms_per_token
        if ms < fastest:
            fastest = ms
            yield one


def _completed(
    capacity: Capacity,
    chain: tuple[int, ...],
    beginning: _Beginning,
    limits: Range,
    sessions: int,
    keeps: Callable[[float], bool],
) -> Plan | None:
    """With the fewest replicas of the target that do, found by bisection: more are never slower."""
    options = [_with(beginning, option, sessions, limits) for option in _options(limits, sessions)]

    def ms(option: _Beginning) -> float:
        return capacity.rate(option.shares).ms_per_token

    if not options or not keeps(ms(options[-1])):
        return None
    low, high = 0, len(options) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(ms(options[middle])) else (middle + 1, high)
    return Plan(chain, options[low].replicas, options[low].gpus, ms(options[low]))


def fastest_ms(capacity: Capacity, ranges: Sequence[Range], sessions: int) -> float:
    """Time per token with as many replicas as allowed."""
    most = [_options(limits, sessions)[-1] for limits in ranges]
    return capacity.rate(tuple(share_of(sessions, number) for number in most)).ms_per_token


def with_one_more(capacity: Capacity, plan: Plan, sessions: int) -> dict[int, float]:
    """Time per token with a replica more of one stage, by its rank."""
    times = {}
    for place, rank in enumerate(plan.chain):
        replicas = [number + (place == at) for at, number in enumerate(plan.replicas)]
        times[rank] = capacity.rate(tuple(share_of(sessions, number) for number in replicas)).ms_per_token
    return times
