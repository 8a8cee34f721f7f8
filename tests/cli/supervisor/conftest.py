"""Tiny real processes to supervise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipespec.cli.local.ports import PortPicker
from pipespec.cli.supervisor.spec import ProcessSpec

SERVE = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
def end(*_):
    print("ended in order", flush=True)
    os._exit(0)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid(), flush=True)
server.serve_forever()
"""
"""Ready until SIGTERM."""

SICK = SERVE.replace("send_response(200)", "send_response(503 if 'live' in self.path else 200)")
"""Ready until SIGTERM, and says that it does not live."""

DEAF = SERVE.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
"""Ready, and does not listen to SIGTERM."""

WITH_CHILD = "import subprocess\nsubprocess.Popen(['sleep', '1000'])\n" + DEAF
"""Deaf, and with a process of its own."""

DIE = "import sys\nprint('cannot go on', flush=True)\nsys.exit({code})"
"""Ends at once."""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., ProcessSpec]:
    """Makes specs; ``role`` is the part of the name before the dash."""

    def make(name: str, code: str) -> ProcessSpec:
        with PortPicker() as ports:
            port = ports.take("127.0.0.1", 0, "test")
        return ProcessSpec(
            name=name,
            role=name.partition("-")[0],
            argv=(sys.executable, "-c", code, str(port)),
            env=os.environ,
            log=tmp_path / f"{name}.log",
            ready_url=f"http://127.0.0.1:{port}/readyz",
            live_url=f"http://127.0.0.1:{port}/livez",
        )

    return make


def until(condition: Callable[[], object], *, timeout_s: float = 30.0) -> None:
    """Poll a real process until ``condition`` holds."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.01)
