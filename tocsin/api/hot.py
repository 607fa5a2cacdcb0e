"""The few routes that machines call thousands of times a second, answered by the connection itself.

A handler that takes `data`, `caller` and `service`, and nothing else, may name its function: `opt={"hot": function}`.
`await function(service, caller, data)` returns status and body; with `hot_header`, the name of a header, that header's
value (or None) is passed to it, too. It is called as soon as the request is complete, and the response is one write:
same parsing, same errors, same documentation, half the CPU. Unusual requests (a long body or one of unknown length, a
query, `Expect`, HTTP/1.0, one that is pipelined) are left to the framework.

What has its secret in its path instead of a token says where such paths begin: `opt={"hot_below": b"/ping/", "hot":
function}`. `await function(service, HotRequest)` returns the whole `Answer`, of whatever type; it is called with any
body (or none) and with a query, too. With `hot_only`, a pattern of bytes, all other addresses there are left to the
framework.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, cast
from typing import Protocol as Shape

import msgspec
import structlog
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tocsin.api import body, errors, trail
from tocsin.api.authentication import caller_of
from tocsin.api.connection import Connection
from tocsin.api.connection_limits import ConnectionLimiter
from tocsin.api.service import Service
from tocsin.api.whole_response import JSON, REQUEST_ID, whole
from tocsin.domain import clients, requests
from tocsin.settings import Limits
from tocsin.storage.postgres.database import ASKING, Asking

log = structlog.get_logger()

Address = tuple[bytes, bytes]
"""Method and path, as in a request's first line."""

LONGEST_ADDRESS = 4_096
"""Bytes of a path with a secret, and its query; longer ones are for the framework, which has more to say to them."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status, body, headers besides those of every response, and the body's type."""

    status: int
    content: bytes
    headers: Mapping[str, str] = {}
    media_type: bytes = JSON


class HotRequest(msgspec.Struct, frozen=True, gc=False):
    """A request whose secret is in its path. Names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first of that name."""
        for known, value in self.headers:
            if known == name:
                return value.decode("latin-1")
        return None


class Route(Shape):
    """What a request is answered by: with its headers and its body, whatever happens."""

    path: str
    """Without the secret."""

    async def answer(self, service: Service, request: HotRequest) -> Answer: ...


class HotRoute:
    """One hot route, at one address."""

    def __init__(self, handler: HTTPRouteHandler, method: str, path: str) -> None:
        assert handler.parsed_data_field is not None
        self._handle = handler.opt["hot"]
        self.header: bytes | None = handler.opt.get("hot_header")
        self._read = body.reader(handler.parsed_data_field.annotation)
        self._scope = cast(HTTPScope, {"method": method, "path_template": path})
        self.path = path

    async def answer(self, service: Service, request: HotRequest) -> Answer:
        try:
            caller = await caller_of(request.header(b"authorization"), service)
            more = () if self.header is None else (request.header(self.header),)
            status, answer = await self._handle(service, caller, self._read(request.body), *more)
            return Answer(status, msgspec.json.encode(answer))
        except Exception as error:
            return _refused(self._scope, error)


Handle = Callable[[Service, HotRequest], Awaitable[Answer]]


class SecretRoute:
    """All addresses below one, of whatever method the handlers have. What is logged of an error has no secret in it."""

    def __init__(self, handle: Handle, below: bytes, only: re.Pattern[bytes] | None) -> None:
        self._handle = handle
        self._only = only
        self.path = f"{below.decode()}{{secret}}"
        self._scope = cast(HTTPScope, {"method": "POST", "path_template": self.path})
        self.methods: set[bytes] = set()

    def takes(self, method: bytes, url: bytes) -> bool:
        return method in self.methods and (self._only is None or self._only.fullmatch(url) is not None)

    async def answer(self, service: Service, request: HotRequest) -> Answer:
        try:
            return await self._handle(service, request)
        except Exception as error:
            return _refused(self._scope, error)


def _refused(scope: HTTPScope, error: Exception) -> Answer:
    refusal = errors.refused_request(scope, error)
    return Answer(refusal.status, msgspec.json.encode(errors.body(refusal)), refusal.headers)


def _hot_handlers(app: Litestar) -> list[tuple[str, HTTPRouteHandler]]:
    return [
        (route.path, handler)
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if "hot" in handler.opt
    ]


def hot_routes(app: Litestar) -> dict[Address, HotRoute]:
    """The hot ones of an application's routes that have one address each."""
    return {
        (method.encode(), path.encode()): HotRoute(handler, method, path)
        for path, handler in _hot_handlers(app)
        if "hot_below" not in handler.opt
        for method in handler.http_methods
    }


def secret_routes(app: Litestar) -> dict[bytes, SecretRoute]:
    """The hot ones of an application's routes that have a secret in their path, by where they begin."""
    found: dict[bytes, SecretRoute] = {}
    for _, handler in _hot_handlers(app):
        if below := handler.opt.get("hot_below"):
            route = found.setdefault(below, SecretRoute(handler.opt["hot"], below, handler.opt.get("hot_only")))
            route.methods |= {method.encode() for method in handler.http_methods}
    for route in found.values():
        route.methods |= {b"HEAD"} if b"GET" in route.methods else set()
    return found


class Protocol(Connection):
    """A connection of the server. It handles hot requests itself and leaves all others to uvicorn."""

    api: ClassVar[Litestar]
    hot_routes: ClassVar[Mapping[Address, HotRoute]]
    secret_routes: ClassVar[Mapping[bytes, SecretRoute]]
    secret_places: ClassVar[tuple[bytes, ...]]
    followed: ClassVar[bool]

    def begin_exchange(self) -> None:
        method, length, request_id = self.parser.get_method(), b"", None
        hot: Route | None = self.hot_routes.get((method, self.url))
        if hot is None and self.url.startswith(self.secret_places) and len(self.url) <= LONGEST_ADDRESS:
            hot, length = self._secret_route(method), b"0"
        busy = self.cycle is not None and not self.cycle.response_complete
        if hot is not None and not busy and not self.expect_100_continue and self.version == "1.1":
            for name, value in self.headers:
                if name == b"content-length":
                    length = value
                elif name == b"transfer-encoding":
                    length = b""
                elif name == REQUEST_ID and request_id is None:
                    request_id = value
            # A longer body is for the framework, which authenticates before it buffers more than that.
            if length.isdigit() and int(length) <= HIGH_WATER_LIMIT:
                self.cycle = HotCycle(self, hot, method, request_id)  # type: ignore[assignment]  # the part of it that is used
                return
        super().begin_exchange()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        asking = ASKING.set(Asking(cycle))
        try:
            super()._start_asgi_task(cycle, app)
        finally:
            ASKING.reset(asking)

    def _secret_route(self, method: bytes) -> SecretRoute | None:
        found = next(route for below, route in self.secret_routes.items() if self.url.startswith(below))
        return found if found.takes(method, self.url) else None


class HotCycle:
    """One hot request and its response: as much of uvicorn's `RequestResponseCycle` as its protocol uses."""

    def __init__(self, connection: Protocol, hot: Route, method: bytes, given_id: bytes | None) -> None:
        self._connection: Protocol | None = connection
        self.request_id = requests.id_from(given_id)
        self._begun = False
        self._hot = hot
        self._method = method
        self._url = connection.url
        self._headers = connection.headers
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

    async def _follow(self, service: Service, request: HotRequest) -> Answer:
        with trail.request(request.method, request.headers) as noted:
            answer = await self._hot.answer(service, request)
            noted.path = noted.route = self._hot.path
            noted.status = answer.status
        return answer

    async def run_asgi(self, app: Any) -> None:
        """Respond. Runs as a task, under the name that the protocol uses."""
        connection, self._connection = self._connection, None  # breaks the reference cycle with the response
        assert connection is not None
        try:
            service = connection.api.state.service
            path, _, query = self._url.decode("latin-1").partition("?")
            request = HotRequest(self._method.decode(), path, query, self._headers, bytes(self.body))
            answer = await (self._follow if connection.followed else self._hot.answer)(service, request)
            if connection.flow.write_paused:
                await connection.flow.drain()
            if self.disconnected or connection.transport.is_closing():
                return
            response = whole(
                answer.status, answer.content, answer.headers, self.request_id,
                defaults=connection.server_state.default_headers, close=not self.keep_alive,
                media_type=answer.media_type,
            )  # fmt: skip
            shown = len(response) - len(answer.content) if self._method == b"HEAD" else len(response)
            connection.transport.write(response[:shown])
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
        secret_routes = secret_routes(app)
        secret_places = tuple(secret_routes)
        followed = trail.followed()
        limiter = ConnectionLimiter(limits, files, proxies)

    return OfThisApplication
