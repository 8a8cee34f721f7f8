"""When a process that died or hangs is started again, and when that is given up. Pure: whoever asks brings the clock.

Waits double from half a second to half a minute. A process that ran well for a while starts over with its count.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.cli.supervisor.spec import ProcessSpec

SETTINGS_EXIT = 2
"""Exit code of a service that cannot start as it is configured; starting it again changes nothing."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient the supervisor is.

    Attributes:
        first_wait_s: before the first restart; doubles with each quick death.
        longest_wait_s: the doubling ends here.
        good_run_s: a process that was ready and lived this long did not die quickly.
        max_quick_deaths: in a row; the next one gives up.
        probe_every_s: between two looks at whether a process that has been ready still lives.
        max_start_s: a process that is not ready after this long hangs and is killed.
        max_missed: looks in a row without a yes; then it hangs and is killed. Generous: a busy machine is slow.
    """

    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    good_run_s: float = 30.0
    max_quick_deaths: int = 3
    probe_every_s: float = 5.0
    max_start_s: float = 600.0
    max_missed: int = 8


class Restarts:
    """The deaths of one process so far."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._quick_deaths = 0

    def after_death(self, *, exit_code: int, lived_s: float, was_ready: bool) -> float | None:
        """Seconds to wait before the next start; None: give up."""
        if was_ready and lived_s >= self._policy.good_run_s:
            self._quick_deaths = 0
        self._quick_deaths += 1
        if self._quick_deaths > self._policy.max_quick_deaths or (
            exit_code == SETTINGS_EXIT and not was_ready
        ):
            return None
        return min(self._policy.longest_wait_s, self._policy.first_wait_s * 2.0 ** (self._quick_deaths - 1))


def describe_death(spec: ProcessSpec, exit_code: int, last_lines: str, *, hung: str = "") -> str:
    """How it ended and the last that it said; ``hung`` says how it showed that it had to be killed, if it had to."""
    how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
    if hung:
        how = f"hung ({hung}) and was killed"
    said = "\n".join(f"  | {line}" for line in last_lines.splitlines()) or "  | (it wrote nothing)"
    return f"{spec.name} {how}; its last lines (all of them: {spec.log}):\n{said}"
