"""These tests run in namespaces of their own, out of images that were built before: ``make test-images``, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

IN_CLUSTER = "PIPESPEC_TEST_IMAGES"
"""Set by ``run.sh`` in the namespaces."""

collect_ignore_glob = [] if os.environ.get(IN_CLUSTER) else ["test_*.py"]

MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


@pytest.fixture
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Adds a line to what is printed at the end."""
    return pytestconfig.stash[MEASURED].append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[MEASURED]:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
