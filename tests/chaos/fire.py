"""One shot: streams run, a fault comes, every stream ends with the oracle's text and one word about the end.

A ``Fault`` is an asynchronous context manager over a fleet: the body of its ``with`` block is the rest of the streams' life, and
what it does afterwards makes the fleet whole again. What must hold besides exactness it asserts itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from chaos.clients import CUT, DONE, Clients, Stream
from chaos.fleet import Fleet
from chaos.report import Measured
from chaos.service import PATIENCE_S
from e2e.local_chain import eventually
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

LONGEST_PAUSE = "longest pause of any session from the fault on"
AFTER_HEAL = "longest time from the heal to a session's next token"


@dataclass
class Shot:
    """What a fault can use and say.

    Attributes:
        fleet: under fire.
        streams: all that run.
        clients: that asked; may ask for more.
        healed_s: set where the time from here to the next token counts, not the longest pause.
        measured_s: set where something else counts.
        lost: gateways whose streams may be cut (and must not look complete).
        notes: further figures.
    """

    fleet: Fleet
    clients: Clients
    streams: list[Stream]
    healed_s: float | None = None
    measured_s: float | None = None
    lost: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)


Fault = Callable[[Shot], AbstractAsyncContextManager[None]]


class Oracle(Protocol):
    """What the target alone says."""

    def __call__(self, prompt: str, num_tokens: int) -> list[int]:
        """Token ids of greedy decoding."""

    def text(self, ids: Sequence[int]) -> str:
        """As a gateway says it."""


class EmulatedOracle:
    """The hash language of an emulated target, computed without any pipeline."""

    def __init__(self, fleet: Fleet) -> None:
        self._language = language_of(fleet.pipeline.stages)
        self._tokenizer = byte_tokenizer()

    def __call__(self, prompt: str, num_tokens: int) -> list[int]:
        return [int(t) for t in self._language.target_text(self._tokenizer.encode(prompt).ids, num_tokens)]

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def check_exact(stream: Stream, oracle: Oracle) -> None:
    """The oracle's tokens, contiguous, and exactly one terminal event, which says success."""
    assert stream.ends == [DONE], (stream.prompt, stream.ends, len(stream.text))
    expected = oracle(stream.prompt, stream.num_tokens)
    assert stream.text == oracle.text(expected), stream.prompt
    if stream.ids:
        assert stream.ids == expected, stream.prompt
        assert stream.num_gaps == 0, stream.prompt


def check_cut(stream: Stream, oracle: Oracle) -> None:
    """Right as far as it goes, and nothing that looks like success."""
    assert DONE not in stream.ends, stream.prompt
    assert len(stream.ends) == 1, (stream.prompt, stream.ends)
    assert stream.ends[0] == CUT or stream.ends[0].startswith("error"), stream.ends
    assert oracle.text(oracle(stream.prompt, stream.num_tokens)).startswith(stream.text)


@dataclass(frozen=True)
class Row:
    """A row of the specification as a shot.

    Attributes:
        row: its name there.
        fault: in a few words.
        bound_s: of what is measured.
        inject: the fault.
        num_tokens: of each stream; they must outlast the fault.
        num_streams: at once.
        what: is measured.
    """

    row: str
    fault: str
    bound_s: float | None
    inject: Fault
    num_tokens: int = 140
    num_streams: int = 6
    what: str = LONGEST_PAUSE

    def measured(self, fleet: Fleet, *, kind: str) -> Measured:
        """An empty line of the report."""
        timers = fleet.pipeline.timers.model_dump()
        return Measured(self.row, self.fault, kind, self.what, self.bound_s, timers)


Check = Callable[[Stream], None]


async def shoot(
    row: Row,
    fleet: Fleet,
    oracle: Oracle,
    *,
    prompts: Sequence[str],
    check: Check | None = None,
    protocol: str = "",
) -> tuple[float, dict[str, float]]:
    """Fire once at a whole fleet and leave it whole; what was measured, and notes."""
    await fleet.whole()
    async with Clients(fleet, protocol) as clients:
        streams = clients.start(prompts, row.num_tokens)
        await eventually(lambda: all(len(s.came_s) >= 4 for s in streams), timeout_s=PATIENCE_S)
        shot = Shot(fleet, clients, streams)
        assert clients.num_running == len(streams), "the streams ended before the fault"
        since_s = time.monotonic()
        async with row.inject(shot):
            await clients.finish()
            for stream in streams:
                if stream.gateway in shot.lost:
                    check_cut(stream, oracle)
                elif check is not None:
                    check(stream)
                else:
                    check_exact(stream, oracle)
        seconds = _measure(shot, since_s)
    return seconds, shot.notes


def _measure(shot: Shot, since_s: float) -> float:
    if shot.measured_s is not None:
        return shot.measured_s
    if shot.healed_s is not None:
        later = [s for s in shot.streams if s.came_s[-1] > shot.healed_s]
        assert later, "the streams ended before the heal"
        return max(stream.next_token_s(shot.healed_s) for stream in later)
    return max(s.longest_pause_s(since_s) for s in shot.streams if s.gateway not in shot.lost)


async def repeat(
    row: Row,
    fleet: Fleet,
    oracle: Oracle,
    *,
    kind: str,
    repetitions: int,
    prompts: Callable[[int], list[str]],
    protocol: str = "",
) -> Measured:
    """Fire again and again."""
    measured = row.measured(fleet, kind=kind)
    for turn in range(repetitions):
        measured.add(*await shoot(row, fleet, oracle, prompts=prompts(turn), protocol=protocol))
    return measured


async def repeat_emulated(row: Row, fleet: Fleet, *, repetitions: int) -> Measured:
    """Fire again and again at an emulated fleet, with new prompts each time."""

    def prompts(turn: int) -> list[str]:
        return [f"{row.row}, turn {turn}, session {index}" for index in range(row.num_streams)]

    oracle = EmulatedOracle(fleet)
    return await repeat(row, fleet, oracle, kind="emulated", repetitions=repetitions, prompts=prompts)
