"""Logging to standard error, one line an event: text on a terminal, else JSON.

What was logged while a request was served, or for one, bears its identifier. A traceback is a field of the JSON; as
text, the error and the places that it went through stand in the same line.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from tocsin.domain import requests

PLACES = 6
"""The last places of a traceback, which text has room for."""

log = structlog.get_logger(__name__)


def set_up(process: str, level: str) -> None:
    """Configure logging for this process from this level on; its name is on each line. Includes warnings and errors of
    other libraries: what they say below that may quote secrets.
    """
    wanted = logging.getLevelNamesMapping()[level.upper()]

    def name(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    common: list[Processor] = [
        name,
        _origin,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    rendering: list[Processor]
    if sys.stderr.isatty():
        rendering = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _in_one_line,
            structlog.dev.ConsoleRenderer(pad_event_to=0, repr_native_str=True),  # else it quotes few of them
        ]
    else:
        rendering = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(wanted),
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
    logging.basicConfig(handlers=[handler], level=max(wanted, logging.WARNING), force=True)
    logging.captureWarnings(True)
    sys.unraisablehook = _unraisable
    threading.excepthook = _of_thread


def _origin(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Say which request it is about, and which trace."""
    origin = requests.current()
    if origin is not None:
        event["request_id"] = requests.id_of(origin)
        if trace := requests.trace_of(origin):
            event["trace_id"] = trace.split("-")[1]
    return event


def _in_one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The event, and its error if it has one, without line ends and control characters. Other values are quoted."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["raised"] = "".join(traceback.format_exception_only(error)).strip()
        places = traceback.extract_tb(error.__traceback__)[-PLACES:]
        event["at"] = " > ".join(f"{each.filename}:{each.lineno} {each.name}" for each in places)
    event.pop("stack_info", None)
    said = str(event.get("event", ""))
    event["event"] = said if said.isprintable() else " ".join("".join(_visible(each) for each in said).split())
    return event


def _visible(character: str) -> str:
    return character if character.isprintable() else " "


def _unraisable(found: Any) -> None:
    log.error("An error was ignored", of=repr(found.object)[:200], exc_info=found.exc_value)


def _of_thread(found: Any) -> None:
    if found.exc_type is not SystemExit:
        log.error("A thread ended by an error", thread=found.thread and found.thread.name, exc_info=found.exc_value)
