"""These tests run in namespaces of their own, out of images that were built before: ``make test-images``, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

IN_CLUSTER = "PIPESPEC_TEST_IMAGES"
"""Set by ``run.sh`` in the namespaces."""

collect_ignore_glob = [] if os.environ.get(IN_CLUSTER) else ["test_*.py"]


@pytest.fixture
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Prints what was measured, past pytest's capture."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    return lambda line: terminal.write_line(f"\n  {line}")
