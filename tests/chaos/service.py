"""One process of a fleet under fire: started, killed, frozen, restarted in place, asked for its probes and metrics.

Nobody supervises it: what is killed stays dead until a scenario starts it again, so that a recovery time is the protocol's
own. The kernel ends it with the test process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipespec.cli.supervisor.spec import ProcessSpec

PATIENCE_S = 90.0
"""For whatever must come to pass; a busy machine takes its time."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for other processes; the event loop goes on, it watches streams."""
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


@dataclass
class Service:
    """A process that a scenario owns."""

    spec: ProcessSpec
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, or a successor under the same name and address."""
        assert not self.runs, self.spec.name
        self._close_stdin()
        with self.spec.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.spec.argv,
                env=dict(self.spec.env),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def reads(self, file: Path) -> None:
        """Have it read another pipeline file when it starts."""
        words = list(self.spec.argv)
        words[words.index("--pipeline") + 1] = str(file)
        self.spec = replace(self.spec, argv=tuple(words))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. A frozen process dies too."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def order(self, line: str) -> None:
        """Write a line to its standard input; programs of the tests take orders there."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    async def end(self) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)

    def _get(self, path: str) -> tuple[int, str]:
        url = self.spec.ready_url.replace("/readyz", path)
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, of our own process
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def probe(self, path: str) -> int:
        """Status of a probe; 0 where nothing answers."""
        return self._get(path)[0]

    def metrics(self) -> dict[str, float]:
        """All samples by name with labels; none where nothing answers."""
        lines = (line.rpartition(" ") for line in self._get("/metrics")[1].splitlines() if line[:1] != "#")
        return {name: float(value) for name, _, value in lines}

    async def until_ready(self) -> None:
        """Wait until it says that work can be done."""

        def is_ready() -> bool:
            assert self.runs, f"{self.spec.name} has ended:\n{self.last_words()}"
            return self.probe("/readyz") == 200

        await until(is_ready)

    def said(self) -> str:
        """All of its log."""
        return self.spec.log.read_text(errors="replace")

    def last_words(self) -> str:
        return self.said()[-3000:]

    def dispose(self) -> None:
        """End it, however it is."""
        if self.runs:
            self.kill()
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def environment_of_programs(tests: os.PathLike[str], env: dict[str, str]) -> dict[str, str]:
    """``env`` in which the programs of these tests can be imported."""
    return env | {"PYTHONPATH": os.pathsep.join([str(tests), *filter(None, [env.get("PYTHONPATH")])])}
