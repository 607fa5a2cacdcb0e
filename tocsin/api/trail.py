"""What can be followed of each request: a line of the log, at the level `debug`; and a span, where traces are taken.

Addresses may hold secrets, so a request is known by its route; only public identifiers are filled in.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from tocsin.domain import ids, requests, traces
from tocsin.transports import tracing

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_PUBLIC = re.compile(r"[A-Z]{2,3}[0-9A-Z]{26}", re.ASCII)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
UNKNOWN = "/unknown"
"""The route of what leads nowhere: its address may be anything."""


def followed() -> bool:
    """Whether requests are followed at all."""
    return tracing.on() or bool(log.is_enabled_for(logging.DEBUG))


def path_of(scope: Scope) -> str:
    """The address without secrets: the route's, with the identifiers that anybody may see."""
    given = scope.get("path_params") or {}

    def filled(found: re.Match[str]) -> str:
        value = str(given.get(found[1], ""))
        return value if _PUBLIC.fullmatch(value) else f"{{{found[1]}}}"

    template = scope.get("path_template")
    return UNKNOWN if not template else _PARAMETER.sub(filled, str(template))


def route_of(scope: Scope) -> str | None:
    """As `/api/v1/incidents/{uuid}`."""
    template = scope.get("path_template")
    return None if not template else _PARAMETER.sub(lambda found: f"{{{found[1]}}}", str(template))


async def follow(app: App, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Have the framework answer, and say so."""
    status = 0

    async def noting(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    with request(scope["method"], scope["headers"]) as noted:
        try:
            await app(scope, receive, noting)
        finally:
            noted.route, noted.path = route_of(scope), path_of(scope)
            noted.status = status


class Noted:
    """What is known of a request when it is answered. A `status` of 0 means that there was no answer."""

    route: str | None = None
    path = UNKNOWN
    status = 0


@contextmanager
def request(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Noted]:
    """Follow a request while it is answered in here. Attributes: OpenTelemetry's semantic conventions for HTTP servers.

    Not among them: who asks, and with what.
    """
    began, noted = time.perf_counter(), Noted()
    with tracing.span(method, "server", parent=_given(headers)) as span:
        try:
            yield noted
        finally:
            log.debug(
                "Answered", method=method, path=noted.path, status=noted.status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )  # fmt: skip
            if span is not None:
                _describe(span, method, headers, noted)


def describe(span: Span, incidents: Sequence[UUID]) -> None:
    """Say which incidents a span opened or resolved: how many, and one of them by name."""
    span.set_attribute("tocsin.incidents", len(incidents))
    if len(incidents) == 1:
        span.set_attribute("tocsin.incident.uuid", ids.public(ids.INCIDENT, incidents[0]))


def _given(headers: Iterable[tuple[bytes, bytes]]) -> traces.Position | None:
    """Where in a trace the caller is, if it says so."""
    given = [value for name, value in headers if name == b"traceparent"] if tracing.on() else []
    return traces.read(given[0].decode("latin-1")) if len(given) == 1 else None


def _describe(span: Span, method: str, headers: Iterable[tuple[bytes, bytes]], noted: Noted) -> None:
    span.set_attribute("http.request.method", method)
    span.set_attribute("url.scheme", "http")
    span.set_attribute("url.path", noted.path)
    span.set_attribute("tocsin.request_id", requests.id_of(requests.current()) or "")
    if noted.route is not None:
        span.set_attribute("http.route", noted.route)
        span.update_name(f"{method} {noted.route}")
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    if found := _HOST.fullmatch(host):
        span.set_attribute("server.address", found[1].strip("[]"))
        if found[2]:
            span.set_attribute("server.port", int(found[2]))
    if noted.status:
        span.set_attribute("http.response.status_code", noted.status)
    if noted.status >= 500 or not noted.status:
        tracing.failed(span, str(noted.status) if noted.status else "no_answer")
