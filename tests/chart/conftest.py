"""The chart's tests run Helm and kubectl, which are fetched for one platform."""

from __future__ import annotations

from pathlib import Path

import pytest
from helm.tools import HAS_PROGRAMS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HAS_PROGRAMS:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="helm and kubectl are fetched for Linux on x86-64 only"))
