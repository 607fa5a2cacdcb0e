"""The few routes that machines call thousands of times a second, answered by the connection itself.

A handler that takes `data`, `caller` and `service`, and nothing else, may name its function: `opt={"hot": function}`.
`await function(service, caller, data)` returns status and body; with `hot_header`, the name of a header, that header's
value (or None) is passed to it, too. It is called as soon as the request is complete, and the response is one write:
same parsing, same errors, same documentation, half the CPU. Unusual requests (a long body or one of unknown length, a
query, `Expect`, HTTP/1.0, one that is pipelined) are left to the framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import msgspec
import structlog
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tocsin.api import body, errors
from tocsin.api.authentication import caller_of
from tocsin.api.connection import Connection
from tocsin.api.connection_limits import ConnectionLimiter
from tocsin.api.service import Service
from tocsin.domain import clients
from tocsin.settings import Limits

log = structlog.get_logger()

Address = tuple[bytes, bytes]
"""Method and path, as in a request's first line."""

Answer = tuple[int, bytes, Mapping[str, str]]
"""Status, body, and headers besides those of every response."""


class HotRoute:
    """One hot route."""

    def __init__(self, handler: HTTPRouteHandler, method: str, path: str) -> None:
        assert handler.parsed_data_field is not None
        self._handle = handler.opt["hot"]
        self.header: bytes | None = handler.opt.get("hot_header")
        self._read = body.reader(handler.parsed_data_field.annotation)
        self._scope = cast(HTTPScope, {"method": method, "path": path})

    async def answer(self, service: Service, authorization: str | None, header: str | None, content: bytes) -> Answer:
        """The response, whatever happens."""
        try:
            caller = await caller_of(authorization, service)
            more = () if self.header is None else (header,)
            status, answer = await self._handle(service, caller, self._read(content), *more)
            return status, msgspec.json.encode(answer), {}
        except Exception as error:
            refusal = errors.refused_request(self._scope, error)
            return refusal.status, msgspec.json.encode(errors.body(refusal)), refusal.headers


def hot_routes(app: Litestar) -> dict[Address, HotRoute]:
    """The hot ones of an application's routes."""
    return {
        (method.encode(), route.path.encode()): HotRoute(handler, method, route.path)
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if "hot" in handler.opt
        for method in handler.http_methods
    }


class Protocol(Connection):
    """A connection of the server. It handles hot requests itself and leaves all others to uvicorn."""

    api: ClassVar[Litestar]
    hot_routes: ClassVar[Mapping[Address, HotRoute]]

    def begin_exchange(self) -> None:
        hot = self.hot_routes.get((self.parser.get_method(), self.url))
        busy = self.cycle is not None and not self.cycle.response_complete
        if hot is not None and not busy and not self.expect_100_continue and self.version == "1.1":
            authorization, wanted, length = None, None, b""
            for name, value in reversed(self.headers):  # the first of each name counts
                if name == b"authorization":
                    authorization = value.decode("latin-1")
                elif name == b"content-length":
                    length = value
                elif name == hot.header:
                    wanted = value.decode("latin-1")
            # A longer body is for the framework, which authenticates before it buffers more than that.
            if length.isdigit() and int(length) <= HIGH_WATER_LIMIT:
                exchange = HotCycle(self, hot, authorization, wanted)
                self.cycle = exchange  # type: ignore[assignment]  # the part of it that is used
                return
        super().begin_exchange()


class HotCycle:
    """One hot request and its response: as much of uvicorn's `RequestResponseCycle` as its protocol uses."""

    def __init__(self, connection: Protocol, hot: HotRoute, authorization: str | None, header: str | None) -> None:
        self._connection: Protocol | None = connection
        self._begun = False
        self._hot = hot
        self._authorization = authorization
        self._header = header
        self.keep_alive = connection.parser.should_keep_alive()
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> HotCycle:
        return self

    def set(self) -> None:
        """Something has arrived: a part of the body, its end, or the end of the connection."""
        connection = self._connection
        if connection is None or self._begun:
            return
        if self.disconnected:
            self._connection = None
        elif not self.more_body:
            self._begun = True
            connection._start_asgi_task(self, connection.app)  # a task that shutdown waits for

    async def run_asgi(self, app: Any) -> None:
        """Respond. Runs as a task, under the name that the protocol uses."""
        connection, self._connection = self._connection, None  # breaks the reference cycle with the response
        assert connection is not None
        try:
            service = connection.api.state.service
            arguments = self._authorization, self._header, bytes(self.body)
            status, content, headers = await self._hot.answer(service, *arguments)
            if connection.flow.write_paused:
                await connection.flow.drain()
            if self.disconnected or connection.transport.is_closing():
                return
            connection.transport.write(connection.whole(status, content, headers, close=not self.keep_alive))
        except BaseException as error:  # there is no response, and the caller must not wait for one
            log.error("request not answered", error=type(error).__name__)
            connection.transport.close()
            raise
        finally:
            self.body.clear()
            self.response_complete = True
        if not self.keep_alive:
            connection.end()
        connection.on_response_complete()


def protocol(
    app: Litestar, limits: Limits, files: int, proxies: Sequence[clients.Network]
) -> type[HttpToolsProtocol]:
    """The server's protocol for this application, behind these proxies, in a process that may open so many files."""

    class OfThisApplication(Protocol):
        api = app
        hot_routes = hot_routes(app)
        limiter = ConnectionLimiter(limits, files, proxies)

    return OfThisApplication
