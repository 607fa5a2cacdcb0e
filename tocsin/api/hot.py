"""The few routes that machines call thousands of times a second, answered without the framework's detour.

A handler that is marked `opt={"hot": True}`, and takes `data`, `caller` and `service` and nothing else, is called
directly: same reading, same refusals, same documentation, a third of the CPU (0.07 s instead of 0.23 per 1,000).
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send

from tocsin.api import body, refusals
from tocsin.api.caller import caller_of
from tocsin.api.service import Service
from tocsin.domain.errors import Refused

Address = tuple[str, str]
"""Method and path."""


class Hot:
    """One such route."""

    def __init__(self, handler: HTTPRouteHandler) -> None:
        assert handler.parsed_data_field is not None
        self._act = handler.fn
        self._read = body.reader(handler.parsed_data_field.annotation)
        self._limit = handler.resolve_request_max_body_size() or body.LIMIT
        self._status = handler.status_code

    async def __call__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = await caller_of(_authorization(scope), service)
            content = await _received(receive, self._limit)
            answer = await self._act(data=self._read(content), caller=caller, service=service)
        except Exception as error:
            await refusals.send(send, refusals.refused_request(scope, error))
            return
        status = self._status
        if isinstance(answer, Response):
            status, answer = answer.status_code or status, answer.content
        await refusals.send_json(send, status, msgspec.json.encode(answer))


def shortcuts(app: Litestar) -> dict[Address, Hot]:
    """The hot ones of an application's routes."""
    return {
        (method, route.path): Hot(handler)
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if handler.opt.get("hot")
        for method in handler.http_methods
    }


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value.decode("latin-1")
    return None


async def _received(receive: Receive, limit: int) -> bytes:
    content: bytes = b""
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "invalid_request", "The connection was closed before the body was complete")
        content += message.get("body", b"")
        if len(content) > limit:
            raise refusals.too_large()
        if not message.get("more_body"):
            return content
