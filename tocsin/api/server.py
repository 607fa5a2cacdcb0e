"""The API as one ASGI application: every noun next to this file, one way to parse, one way to reject."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, cast

from litestar import Litestar, Request, Response, Router, route
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import ControllerRouterHandler, HTTPScope, Message, Receive, Scope, Send
from litestar.types.internal_types import RouteHandlerMapItem

from tocsin.api import authentication, body, docs, errors, probe, schemas, server_metrics, trail
from tocsin.api.service import Service
from tocsin.domain import discovery
from tocsin.domain.errors import Refused, invalid

OpenService = Callable[[], AbstractAsyncContextManager[Service]]
Judge = Callable[[Scope, BaseException], Refused]
AsPage = Callable[[Request[Any, Any, Any], Exception, Judge], Response[Any] | None]


def build(
    open_service: OpenService,
    extra_routes: Sequence[ControllerRouterHandler] = (),
    dependencies: Mapping[str, Provide] | None = None,
    as_page: AsPage | None = None,
) -> Front:
    """The application. `open_service` is entered when the server starts and exited when it has stopped; `extra_routes`
    (pages, say) get the same dependencies: `service`, and `caller` or `user_id` if they name them, and further
    `dependencies`. `as_page` answers a refused request with a page, or None if the caller wants JSON.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_service() as service:
            app.state.service = service
            heartbeat = asyncio.create_task(server_metrics.heartbeat(service.pool))
            try:
                yield
            finally:
                heartbeat.cancel()
                await asyncio.wait({heartbeat})

    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        shown = as_page(request, error, errors.refused_request) if as_page else None
        return shown or errors.answer(request, error)

    app = application([*nouns(), *extra_routes], dependencies, answer, lifespan=[lifespan])
    # Described by a separate application, on demand: it takes a second, which a start should not.
    app.state.description = cache(lambda: docs.describe(application([*nouns()], openapi_config=docs.config())))
    return Front(app)


def application(
    routes: Sequence[ControllerRouterHandler],
    dependencies: Mapping[str, Provide] | None = None,
    answer: Callable[[Request[Any, Any, Any], Exception], Response[Any]] = errors.answer,
    **options: Any,
) -> Litestar:
    return Litestar(
        route_handlers=[_Together([*_options(routes), *map(_bounded, routes)])],
        dependencies={
            "service": Provide(_service, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
            "user_id": Provide(_user_id, sync_to_thread=False),
            "probe": Provide(_probe, sync_to_thread=False),
            "asked": Provide(schemas.asked_page, sync_to_thread=False),
            **(dependencies or {}),
        },
        guards=[identify],
        dto=body.JsonBody,
        return_dto=None,
        exception_handlers={Exception: answer},
        request_max_body_size=body.OPEN_LIMIT,
        logging_config=None,
        **{"openapi_config": None, **options},
    )


class _Together(Router):
    """All routes as one. After each that it is given alone, the framework makes its index of all of them anew, and what
    it knows of the other methods of the same address: with all of ours, that is a fifth of a second of every start.
    """

    def __init__(self, handlers: Sequence[ControllerRouterHandler]) -> None:
        super().__init__(path="/", route_handlers=[])
        self._handlers = [self._validate_registration_value(handler) for handler in handlers]

    def __deepcopy__(self, memo: object) -> _Together:
        return self  # it is given to one application

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        found: dict[str, RouteHandlerMapItem] = {}
        for handler in self._handlers:
            for path, methods in self.get_route_handler_map(handler).items():
                found.setdefault(path, {}).update(methods)
        return found


def _bounded(handler: ControllerRouterHandler) -> ControllerRouterHandler:
    return body.bounded(handler) if isinstance(handler, HTTPRouteHandler) else handler


def _options(routes: Sequence[ControllerRouterHandler]) -> list[HTTPRouteHandler]:
    """Handlers that list the methods of an address; the framework's own list only the first one registered."""
    methods: dict[str, set[str]] = {}
    for handler in routes:
        if isinstance(handler, HTTPRouteHandler):
            for path in handler.paths:
                methods.setdefault(path, {"OPTIONS"}).update(handler.http_methods)

    def options(path: str, known: set[str]) -> HTTPRouteHandler:
        allow = ", ".join(sorted(known | {"HEAD"} if "GET" in known else known))

        def answer() -> Response[None]:
            return Response(None, status_code=204, headers={"Allow": allow}, media_type="text/plain")

        return route(path, http_method="OPTIONS", include_in_schema=False, sync_to_thread=False)(answer)

    return [options(path, known) for path, known in methods.items()]


def nouns() -> Iterator[ControllerRouterHandler]:
    """The routes of every file in this folder that has routes."""
    for module in discovery.modules(__name__.rpartition(".")[0]):
        yield from getattr(module, "routes", ())


async def identify(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Authenticate before a body is read, if the handler needs it."""
    wanted = handler.parsed_fn_signature.parameters
    authorization, service = connection.headers.get("authorization"), connection.app.state.service
    if "caller" in wanted:
        reading = connection.scope.get("method") in authentication.READING
        connection.state.caller = await authentication.caller_of(authorization, service, reading=reading)
    if "probe" in wanted:
        connection.state.probe = await probe.probe_of(authorization, service)
    if "user_id" in wanted:
        connection.state.user_id = await authentication.user_of(authorization, service)


def _service(request: Request[Any, Any, Any]) -> Any:
    return request.app.state.service


def _caller(request: Request[Any, Any, Any]) -> Any:
    return request.state.caller


def _user_id(request: Request[Any, Any, Any]) -> Any:
    return request.state.user_id


def _probe(request: Request[Any, Any, Any]) -> Any:
    return request.state.probe


MAX_PATH_LENGTH, MAX_QUERY_LENGTH = 16 * 1024, 8 * 1024
"""RFC 9110, 4.1, requires at least 8,000 bytes."""
MAX_PARAMETERS = 100
"""The framework caches 1,024 queries, raw and parsed: both need a bound."""


class Front:
    """The outermost layer for every request: HEAD is GET without the body, and addresses are short and without NUL."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
        self._followed = trail.followed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._followed and scope["type"] == ScopeType.HTTP:
            await trail.follow(self._answer, scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            if b"%00" in scope["query_string"] or "\0" in scope["path"]:
                await errors.send(send, invalid("The address must not contain a NUL character"))
                return
            query = scope["query_string"]
            too_long = len(scope["path"]) > MAX_PATH_LENGTH or len(query) > MAX_QUERY_LENGTH
            if too_long or query.count(b"&") >= MAX_PARAMETERS:
                await errors.send(send, Refused(414, "uri_too_long", "The address is too long; send less in it"))
                return
            if scope["method"] == "HEAD":
                scope, send = cast(HTTPScope, {**scope, "method": "GET"}), _without_body(send)
        await self.app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def bodiless(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bodiless
