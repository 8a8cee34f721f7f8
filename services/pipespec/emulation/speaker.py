"""What one emulated stage has read of its sessions, and what it says to them.

The cache of a session is a list of hash states, cut back and fed like a real one. No time passes here: the emulated engine
waits as long as a device would, the planner's simulator advances its clock.
"""

from __future__ import annotations

from pipespec.emulation.words import HashLanguage, extend
from pipespec.protocol.ids import SessionId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Outcome, Work


class Speaker:
    """A stage's words.

    Args:
        language: of the chain, or of the part of it that begins with this stage.
        rank: of this stage, as ``language`` counts.
    """

    def __init__(self, language: HashLanguage, *, rank: int) -> None:
        self._language = language
        self._rank = rank
        self._states: dict[SessionId, list[int]] = {}  # of every prefix, from the empty one on

    def __contains__(self, session: SessionId) -> bool:
        return session in self._states

    def open(self, session: SessionId, sampling: Sampling) -> None:
        """Start a session that holds nothing yet; greedy ones say the same, whatever their seed."""
        self._states[session] = [self._language.begin(0 if sampling.is_greedy else sampling.seed)]

    def close(self, session: SessionId) -> None:
        """Forget a session; unknown ones are ignored."""
        self._states.pop(session, None)

    def answer(self, work: Work) -> Outcome:
        """Feed a session's share of a step, and choose.

        Raises:
            KeyError: the session is not open.
        """
        states = self._states[work.session]
        if work.start >= len(states):
            return Outcome([], len(states) - 1)
        del states[work.start + 1 :]
        for token in work.tokens:
            states.append(extend(states[-1], token))
        held = len(states) - 1
        checked = states[held - work.num_candidates :] if work.room else []
        return Outcome([self._language.pick(state, self._rank) for state in checked[: work.room]], held)
