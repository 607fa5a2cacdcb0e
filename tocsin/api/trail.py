"""What can be followed of each request: a line of the log, at the level `debug`.

Addresses may hold secrets, so a request is known by its route; only public identifiers are filled in.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable

import structlog
from litestar.types import HTTPScope, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_PUBLIC = re.compile(r"[A-Z]{2,3}[0-9A-Z]{26}", re.ASCII)
UNKNOWN = "unknown"
"""The route of what leads nowhere: its address may be anything."""


def followed() -> bool:
    """Whether requests are followed at all."""
    return bool(log.is_enabled_for(logging.DEBUG))


def path_of(scope: Scope) -> str:
    """The address without secrets: the route's, with the identifiers that anybody may see."""
    given = scope.get("path_params") or {}

    def filled(found: re.Match[str]) -> str:
        value = str(given.get(found[1], ""))
        return value if _PUBLIC.fullmatch(value) else f"{{{found[1]}}}"

    template = scope.get("path_template")
    return UNKNOWN if not template else _PARAMETER.sub(filled, str(template))


async def follow(app: App, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Have the framework answer, and say so."""
    began, status = time.perf_counter(), 0

    async def noting(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    try:
        await app(scope, receive, noting)
    finally:
        say(scope["method"], path_of(scope), status, began)


def say(method: str, path: str, status: int, began: float) -> None:
    """`began` is by the performance counter; a `status` of 0 means that there was no answer."""
    log.debug("Answered", method=method, path=path, status=status, ms=round((time.perf_counter() - began) * 1000, 1))
