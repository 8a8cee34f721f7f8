"""The report of a run under fire: printed at the end, written where ``--chaos-out`` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.report import Report

_REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ``make chaos``."""
    parser.addoption("--chaos-repetitions", type=int, default=1, help="shots per row")
    parser.addoption("--chaos-out", type=Path, default=None, help="folder for chaos-<device>.json")
    parser.addoption(
        "--chaos-page", type=Path, default=None, help="page that takes the table between its marks"
    )


def pytest_configure(config: pytest.Config) -> None:
    """One report for the run."""
    config.stash[_REPORT] = Report()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Takes what was measured."""
    return request.config.stash[_REPORT]


@pytest.fixture
def repetitions(request: pytest.FixtureRequest) -> int:
    """Shots per row."""
    return int(request.config.getoption("--chaos-repetitions", default=1))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Print the table; after a run without failures, write the file and the page."""
    report = config.stash.get(_REPORT, None)
    if report is None or not report.rows:
        return
    terminalreporter.section("recovery times")
    for line in report.lines():
        terminalreporter.write_line(line)
    if exitstatus != pytest.ExitCode.OK:
        return
    out = config.getoption("--chaos-out", default=None)
    if out is not None:
        terminalreporter.write_line(f"written: {report.write(out)}")
    page = config.getoption("--chaos-page", default=None)
    if page is not None:
        report.into(page)
