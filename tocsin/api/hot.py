"""The few routes that machines call thousands of times a second, answered by the connection itself.

A handler that takes `data`, `caller` and `service`, and nothing else, may name what it does: `opt={"hot": deed}`. The
deed, `await deed(service, caller, data)`, returns status and answer; with `hot_header`, the name of a header, that
header's value (or None) is given to it, too. It is called as soon as the request is there, and
the answer leaves in one write: same reading, same errors, same documentation, half the CPU. Unusual requests (a long
body or one of unknown length, a query, `Expect`, HTTP/1.0, one that does not wait for the answer before)
are left to the framework, which answers all of them.
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
"""Method and path, as they stand in a request's first line."""

Answer = tuple[int, bytes, Mapping[str, str]]
"""Status, body, and headers beside those that every answer has."""


class HotRoute:
    """One such route."""

    def __init__(self, handler: HTTPRouteHandler, method: str, path: str) -> None:
        assert handler.parsed_data_field is not None
        self._handle = handler.opt["hot"]
        self.header: bytes | None = handler.opt.get("hot_header")
        self._read = body.reader(handler.parsed_data_field.annotation)
        self._scope = cast(HTTPScope, {"method": method, "path": path})

    async def answer(self, service: Service, authorization: str | None, header: str | None, content: bytes) -> Answer:
        """What to answer, whatever happens."""
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
    """A connection of the server. It takes hot requests upon itself and leaves all others as they are."""

    api: ClassVar[Litestar]
    hot_routes: ClassVar[Mapping[Address, HotRoute]]

    def begin_exchange(self) -> None:
        hot = self.hot_routes.get((self.parser.get_method(), self.url))
        busy = self.cycle is not None and not self.cycle.response_complete
        if hot is not None and not busy and not self.expect_100_continue and self.version == "1.1":
            authorization, wanted, length = None, None, b""
            for name, value in reversed(self.headers):  # the first of a name counts
                if name == b"authorization":
                    authorization = value.decode("latin-1")
                elif name == b"content-length":
                    length = value
                elif name == hot.header:
                    wanted = value.decode("latin-1")
            # A longer body is for the framework, which asks who calls before it keeps more than that.
            if length.isdigit() and int(length) <= HIGH_WATER_LIMIT:
                exchange = HotCycle(self, hot, authorization, wanted)
                self.cycle = exchange  # type: ignore[assignment]  # all that is used of one
                return
        super().begin_exchange()


class HotCycle:
    """One hot request and its answer: as much of uvicorn's `RequestResponseCycle` as its protocol uses."""

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
        """Something has come: a part of the body, its end, or the end of the connection."""
        connection = self._connection
        if connection is None or self._begun:
            return
        if self.disconnected:
            self._connection = None
        elif not self.more_body:
            self._begun = True
            connection._start_asgi_task(self, connection.app)  # one that a shutdown waits for

    async def run_asgi(self, app: Any) -> None:
        """Answer. A task of its own, by the name that the protocol knows."""
        connection, self._connection = self._connection, None  # what they hold of each other goes with the answer
        assert connection is not None
        try:
            service = connection.api.state.service
            said = self._authorization, self._header, bytes(self.body)
            status, content, headers = await self._hot.answer(service, *said)
            if connection.flow.write_paused:
                await connection.flow.drain()
            if self.disconnected or connection.transport.is_closing():
                return
            connection.transport.write(connection.whole(status, content, headers, close=not self.keep_alive))
        except BaseException as error:  # there is no answer, and the caller shall not wait for one
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
