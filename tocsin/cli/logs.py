"""Logging to standard error: coloured text on a terminal, else one JSON object per line."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from tocsin.settings import debugging


def set_up(process: str) -> None:
    """Configure logging for this process; its name is on each line. Includes warnings of other libraries."""
    level = logging.DEBUG if debugging() else logging.INFO

    def name(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    common: list[Processor] = [
        name,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    rendering: list[Processor]
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback
        rendering = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(exception_formatter=plain, pad_event_to=0),
        ]
    else:
        rendering = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
