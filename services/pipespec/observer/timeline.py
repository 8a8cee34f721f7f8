"""A timeline in the trace event format of Chrome, which Perfetto reads too.

One track per stage replica: steps as bars, publications and rollbacks as marks. One track for the gateway: commits, and the
length of the committed prefix as a curve. Steps carry the clock of their machine, publications that of the observer.
Source: "Trace Event Format", Google, 2016.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipespec.observer.observer import Heard
from pipespec.protocol.ids import SessionId, TokenId, Topic
from pipespec.protocol.messages import Close, Open, Segment, SegmentKind, State, Stepped

_PROCESS = 1

Event = dict[str, Any]


class Timeline:
    """Collects what concerns one session, or all of them.

    Args:
        session: leaves out what concerns others; None: everything.
    """

    def __init__(self, session: SessionId | None = None) -> None:
        self.num_steps = 0
        self.num_rollbacks = 0
        self.sessions: set[SessionId] = set()
        self._session = session
        self._events: list[Event] = []
        self._tracks: dict[str, int] = {}
        self._published: dict[tuple[Topic, SessionId], tuple[int, tuple[TokenId, ...]]] = {}
        self._committed: dict[SessionId, int] = {}

    def add(self, heard: Heard) -> None:
        """Note a message; most kinds leave no mark."""
        sender = heard.envelope.sender
        match heard.envelope.message:
            case Stepped() as step:
                self._add_step(step)
            case Segment() as segment if self._concerns(segment.session):
                self._add_publication(heard.at_us, sender, segment)
            case State(entries=entries):
                for entry in entries:
                    if self._concerns(entry.session):
                        self._add_commit(heard.at_us, sender, entry.session, entry.committed)
            case Open(session=session, epoch=epoch) if self._concerns(session):
                self._mark(heard.at_us, sender, "open", {"session": session.hex(), "epoch": epoch})
            case Close(session=session, reason=reason) if self._concerns(session):
                self._mark(heard.at_us, sender, "close", {"session": session.hex(), "reason": reason.value})

    def document(self) -> dict[str, Any]:
        """The file's content."""
        names = [
            {"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": track, "args": {"name": name}}
            for name, track in sorted(self._tracks.items())
        ]
        order = [
            {
                "ph": "M",
                "name": "thread_sort_index",
                "pid": _PROCESS,
                "tid": track,
                "args": {"sort_index": index},
            }
            for index, (_, track) in enumerate(sorted(self._tracks.items()))
        ]
        return {"displayTimeUnit": "ms", "traceEvents": [*names, *order, *self._events]}

    def _concerns(self, session: SessionId) -> bool:
        return self._session in (None, session)

    def _add_step(self, step: Stepped) -> None:
        shares = [share for share in step.shares if self._concerns(share.session)]
        if not shares:
            return
        self.num_steps += 1
        self.sessions.update(share.session for share in shares)
        fed = sum(share.fed for share in step.shares)
        accepted = sum(share.accepted for share in shares)
        candidates = sum(share.candidates for share in shares)
        args = {
            "sessions in the step": len(step.shares),
            "tokens in the step": fed,
            "shares": [
                {
                    "session": share.session.hex(),
                    "base": share.base,
                    "fed": share.fed,
                    "candidates": share.candidates,
                    "accepted": share.accepted,
                    "said": share.said,
                }
                for share in shares
            ],
        }
        name = f"step of {fed}" if not candidates else f"step of {fed}: {accepted} of {candidates} right"
        track = self._track(f"stage {step.rank} {step.replica}")
        self._events.append(
            {"ph": "X", "name": name, "cat": "step", "ts": step.began_us, "dur": step.took_us, "args": args}
            | {"pid": _PROCESS, "tid": track}
        )

    def _add_publication(self, at_us: int, sender: Topic, segment: Segment) -> None:
        """A window goes to several readers and is repeated; it is marked when it says something new."""
        window = (segment.base, segment.tokens)
        is_rollback = segment.kind is SegmentKind.ROLLBACK
        if self._published.get((sender, segment.session)) == window:
            return
        self._published[sender, segment.session] = window
        self.num_rollbacks += is_rollback
        args = {
            "session": segment.session.hex(),
            "from": segment.base,
            "to": segment.base + len(segment.tokens),
        }
        self._mark(at_us, sender, segment.kind.value, args)

    def _add_commit(self, at_us: int, sender: Topic, session: SessionId, committed: int) -> None:
        if committed <= self._committed.get(session, 0):
            return
        self._committed[session] = committed
        self._mark(at_us, sender, f"commit {committed}", {"session": session.hex(), "committed": committed})
        self._events.append(
            {"ph": "C", "name": f"committed {session.hex()[:8]}", "ts": at_us, "pid": _PROCESS}
            | {"args": {"tokens": committed}}
        )

    def _mark(self, at_us: int, sender: Topic, name: str, args: dict[str, Any]) -> None:
        track = self._track(sender.decode().rstrip(".").replace(".", " "))
        event = {
            "ph": "i",
            "s": "t",
            "name": name,
            "cat": name.split(maxsplit=1)[0],
            "ts": at_us,
            "args": args,
        }
        self._events.append(event | {"pid": _PROCESS, "tid": track})

    def _track(self, name: str) -> int:
        return self._tracks.setdefault(name, len(self._tracks) + 1)


def timeline_of(heard: Iterable[Heard], session: SessionId | None = None) -> Timeline:
    """The timeline of messages that were kept."""
    timeline = Timeline(session)
    for one in heard:
        timeline.add(one)
    return timeline
