"""Pings of heartbeats, in the protocol of Healthchecks, and in those to which clients of Uptime Kuma and Gatus push.

No token, no session, no cookie: the secret is in the path, and it is not logged.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, route
from litestar.handlers import HTTPRouteHandler

from tocsin.actions import heartbeats as actions
from tocsin.actions.base import system
from tocsin.api.hot import Answer, Handle, HotRequest
from tocsin.api.service import Service
from tocsin.domain import ping_urls
from tocsin.domain.ping_urls import NOT_FOUND, Refusal
from tocsin.domain.pings import BODY_LIMIT, Ping
from tocsin.storage.monitoring.pings import Result
from tocsin.storage.postgres.database import transaction

MOST_READ = 16 << 20
"""Bytes of a longer body that are read (and dropped) before it is answered: output must not cost a ping."""
TEXT = b"text/plain; charset=utf-8"
EVERYWHERE = {"Access-Control-Allow-Origin": "*"}
TAKEN = {"Ping-Body-Limit": str(BODY_LIMIT), **EVERYWHERE}
AMBIGUOUS = Refusal(409, "ambiguous slug")
NOT_ACTIVE = "Monitor not found or not active."

_SYSTEM = system()


async def ping(service: Service, request: HotRequest) -> Answer:
    """A ping as Healthchecks takes it."""
    given = ping_urls.ping(request.method, request.path, request.query, ping_urls.text_of(request.body))
    if isinstance(given, Refusal):
        return _text(given)
    result = await _take(service, given)
    created = False
    if result == "unknown" and given.create:
        assert given.slug is not None
        async with transaction(service.pool) as tx:
            created = await actions.provision(tx, _SYSTEM, service.vault, given.key, given.slug)
        result = await _take(service, given)  # another may have created it just now
    if result == "taken":
        return Answer(201, b"Created", TAKEN, TEXT) if created else Answer(200, b"OK", TAKEN, TEXT)
    return _text(_refusal(result))


async def push(service: Service, request: HotRequest) -> Answer:
    """A push as Uptime Kuma takes it."""
    given = ping_urls.push(request.method, request.path, request.query)
    if given is None or await _take(service, given) != "taken":
        return Answer(404, msgspec.json.encode({"ok": False, "msg": NOT_ACTIVE}), EVERYWHERE)
    return Answer(200, b'{"ok":true}', EVERYWHERE)


async def external(service: Service, request: HotRequest) -> Answer:
    """A result of an external endpoint as Gatus takes it."""
    scheme, _, token = (request.header(b"authorization") or "").partition(" ")
    given = ping_urls.external(
        request.method, request.path, request.query, token.strip() if scheme == "Bearer" else None
    )
    if isinstance(given, Refusal):
        return _text(given)
    result = await _take(service, given)
    return Answer(200, b"", {}, TEXT) if result == "taken" else _text(_refusal(result))


async def _take(service: Service, given: Ping) -> Result:
    return await actions.ping(service.batches.ping, _SYSTEM, given)


def _refusal(result: Result) -> Refusal:
    return AMBIGUOUS if result == "ambiguous" else NOT_FOUND


def _text(refusal: Refusal) -> Answer:
    return Answer(refusal.status, refusal.text.encode(), EVERYWHERE, TEXT)


def _route(below: str, paths: list[str], methods: list[Any], handle: Handle) -> HTTPRouteHandler:
    """What the connection does not answer itself: long bodies, and whatever else is unusual."""

    @route(
        paths, http_method=methods, include_in_schema=False, request_max_body_size=None,
        opt={"hot": handle, "hot_below": below.encode()},
    )  # fmt: skip
    async def framework(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
        body = bytearray()
        read = 0
        async for part in request.stream():
            read += len(part)
            body += part[: max(0, BODY_LIMIT + 1 - len(body))]
            if read > MOST_READ:
                break
        scope = request.scope
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        answer = await handle(
            service, HotRequest(scope["method"], path, query, list(scope["headers"]), bytes(body))
        )
        media_type = answer.media_type.decode().partition(";")[0]  # the framework adds the charset
        return Response(answer.content, status_code=answer.status, headers=answer.headers, media_type=media_type)

    return framework


routes = [
    _route(
        ping_urls.PINGS,
        ["/ping/{key:str}", "/ping/{key:str}/{slug:str}", "/ping/{key:str}/{slug:str}/{action:str}"],
        ["GET", "POST"], ping,
    ),
    _route(ping_urls.PUSHES, ["/api/push/{key:str}"], ["GET", "POST"], push),
    _route(ping_urls.ENDPOINTS, ["/api/v1/endpoints/{key:str}/external"], ["POST"], external),
]  # fmt: skip
