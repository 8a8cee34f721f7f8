"""Logs: one line per event, the same form for ours and for libraries'."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import LogSettings


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_json_object_with_what_was_bound(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), service="stage", rank=1)
    structlog.get_logger("pipespec.test").info("stage_ready", model="tiny")
    (line,) = lines(capsys)
    assert line.pop("timestamp")
    assert line == {
        "event": "stage_ready",
        "level": "info",
        "logger": "pipespec.test",
        "model": "tiny",
        "rank": 1,
        "service": "stage",
    }


def test_a_library_s_log_line_has_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), service="gateway")
    logging.getLogger("somewhere").warning("it said %s", "this")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["service"]) == ("it said this", "warning", "gateway")


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="warning", format="json"), service="stage")
    structlog.get_logger("pipespec.quiet").info("not_this")
    structlog.get_logger("pipespec.quiet").warning("but_this")
    assert [line["event"] for line in lines(capsys)] == ["but_this"]


def test_chatty_libraries_are_held_at_warning_even_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="debug", format="json"), service="stage")
    logging.getLogger("httpx").info("GET / 200")
    assert lines(capsys) == []


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), service="stage")
    try:
        int("why")
    except ValueError:
        structlog.get_logger("pipespec.exc").exception("step_failed")
    (line,) = lines(capsys)
    assert "why" in json.dumps(line["exception"])


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="console"), service="broker")
    structlog.get_logger("pipespec.console").info("broker_ready", port=7)
    text = capsys.readouterr().err
    assert "broker_ready" in text
    assert "port=7" in text
    assert "\x1b" not in text  # no colours where there is no terminal
