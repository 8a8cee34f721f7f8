"""Logs: structlog events with fields, as console lines or JSON, and everything of stdlib logging through the same door.

INFO is life cycle; nothing is logged per token; prompts and outputs never are.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from pipespec.ops.pipeline import LogSettings

_QUIET = ("uvicorn", "httpx", "transformers", "huggingface_hub", "grpc", "asyncio")
"""Libraries that narrate; only their warnings are ours."""


def configure_logging(settings: LogSettings, **bound: object) -> None:
    """Log to stderr from now on.

    Args:
        settings: level and format.
        bound: fields of every event of this process, such as ``service="stage"``.
    """
    is_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _binder(bound),
    ]
    if is_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer = structlog.processors.JSONRenderer() if is_json else _console()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _console() -> Processor:
    # Plain tracebacks: the rich ones print local variables, and those may be prompts.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _binder(bound: dict[str, object]) -> Processor:
    def bind(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for name, value in bound.items():
            event.setdefault(name, value)
        return event

    return bind
