"""The addresses that other systems send their alerts to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from litestar import Request, Response, route
from litestar.handlers import HTTPRouteHandler

from tocsin.api import intake, source_keys
from tocsin.api.body import BATCH_LIMIT
from tocsin.api.hot import Answer, HotRequest
from tocsin.api.service import Service
from tocsin.domain.errors import Refused
from tocsin.domain.sources import grafana, pagerduty
from tocsin.domain.sources.alertmanager import AlertmanagerSource
from tocsin.domain.sources.base import KEY_LENGTH, Unreadable, types
from tocsin.domain.sources.grafana import GrafanaSource
from tocsin.domain.sources.pagerduty import PagerdutySource
from tocsin.storage.monitoring.alerts import Became
from tocsin.storage.monitoring.sources import Source

COMMITTED = "It is answered once it is committed; 503 means that it should be sent again."
ROUTING_KEY = re.compile(rb'"routing_key"\s*:\s*"([0-9A-Za-z]{%d})"' % KEY_LENGTH)
"""Where the key of a source may be in a body that is not parsed yet."""
MOST_NAMED = 5
AnyRequest = Request[Any, Any, Any]
Methods = list[Literal["POST", "PUT"]]


class Took(msgspec.Struct):
    """How many of a body's alerts opened an incident, changed one, found it ongoing as it is, resolved one, had no
    effect.
    """

    status: str
    opened: int
    changed: int
    ongoing: int
    resolved: int
    nothing: int


class EventTaken(msgspec.Struct):
    """As PagerDuty answers."""

    status: str
    message: str
    dedup_key: str


class ChangeTaken(msgspec.Struct):
    """As PagerDuty answers."""

    status: str
    message: str


def _json(said: msgspec.Struct, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(said))


def _taken(became: Became) -> Answer:
    return _json(Took("success", became.opened, became.changed, became.ongoing, became.resolved, became.nothing))


async def webhook(service: Service, source: Source, request: HotRequest) -> Answer:
    """What the source's type reads from a body. PagerDuty's senders have addresses of their own, and this one too."""
    if source.wanted.type == PagerdutySource.type:
        return await event(service, source, request)
    return _taken(await _take(service, source, request, types()[source.wanted.type].read))


async def alerts(service: Service, source: Source, request: HotRequest) -> Answer:
    kind = types()[source.wanted.type]
    if not isinstance(kind, AlertmanagerSource):
        raise await _of_another_type(service, source, request.body, AlertmanagerSource.type)
    return _taken(await _take(service, source, request, kind.read_alerts))


async def event(service: Service, source: Source, request: HotRequest) -> Answer:
    if source.wanted.type != PagerdutySource.type:
        raise await _of_another_type(service, source, request.body, PagerdutySource.type)
    key = ""

    def read(value: object, settings: Any, now: Any) -> Any:
        nonlocal key
        [found] = types()[PagerdutySource.type].read(value, settings, now)
        key = getattr(found, "dedup_key", "")
        return iter([found])

    await _take(service, source, request, read)
    return _json(EventTaken("success", "Event processed", key), 202)


async def change_event(service: Service, source: Source, request: HotRequest) -> Answer:
    if source.wanted.type != PagerdutySource.type:
        raise await _of_another_type(service, source, request.body, PagerdutySource.type)
    await _take(service, source, request, lambda value, *_: pagerduty.read_change(value))
    return _json(ChangeTaken("success", "Change event processed"), 202)


async def _take(service: Service, source: Source, request: HotRequest, read: Callable[..., Any]) -> Became:
    body = request.body
    try:
        _check_signature(source, request)
        now = intake.now()
        reading = await intake.read(service, read(intake.parsed(body), source.wanted.settings, now))
    except Unreadable as error:
        await intake.keep(service, source, "refused", str(error), body)
        raise _refused(source, 400, str(error)) from None
    except Refused as refused:
        await intake.keep(service, source, "refused", refused.message, body)
        raise _refused(source, refused.status, refused.message) from None
    return await intake.take(service, source, body, reading)


def _check_signature(source: Source, request: HotRequest) -> None:
    secret = source.wanted.signing_secret
    if secret is None or source.wanted.type != GrafanaSource.type:
        return
    signature = request.header(grafana.SIGNATURE.lower().encode()) or ""
    timestamp = request.header(grafana.TIMESTAMP.lower().encode())
    if not grafana.is_signed(request.body, secret, signature, timestamp, intake.now().timestamp()):
        message = "The signature is missing, too old, or not made with the secret of this source"
        raise Refused(401, "unauthorized", message)


async def _of_another_type(service: Service, source: Source, body: bytes, wanted: str) -> Refused:
    message = f"This source is of type {source.wanted.type}, and this address is for {wanted}"
    await intake.keep(service, source, "refused", message, body)
    return _refused(source, 400, message)


def _refused(source: Source, status: int, message: str) -> Refused:
    code = {401: "unauthorized", 413: "payload_too_large"}.get(status, "invalid_request")
    if source.wanted.type != PagerdutySource.type:
        return Refused(status, code, message)
    shape = {"status": "invalid event", "message": "Event object is invalid", "errors": [message]}
    return Refused(status, code, message, body=shape)


Take = Callable[[Service, Source, HotRequest], Awaitable[Answer]]
TAKES: Mapping[str, Take] = {
    "": webhook, "/api/v2/alerts": alerts, "/v2/enqueue": event, "/v2/change/enqueue": change_event,
}  # fmt: skip
"""What is spoken where, below the address of a source."""
WITH_KEY = re.compile(rb"/in/[0-9A-Za-z]{%d}(?:%b)" % (KEY_LENGTH, "|".join(TAKES).encode()))
ENQUEUE = "/v2/enqueue"


async def by_key(service: Service, request: HotRequest) -> Answer:
    """With the key of a source in its path, as in `WITH_KEY`."""
    _, _, key, *below = request.path.split("/")
    source = await source_keys.of_path(service, key)
    return await TAKES["".join(f"/{each}" for each in below)](service, source, request)


async def by_routing_key(service: Service, request: HotRequest, take: Take = event) -> Answer:
    """With the key of a source in its body."""
    named = {each[1].decode() for each in islice(ROUTING_KEY.finditer(request.body), MOST_NAMED)}
    known = {key: source for key in named if (source := await source_keys.source_of(service, key))}
    try:
        given = intake.parsed(request.body) if known else None  # nothing is parsed for strangers
    except Refused as refused:
        raise _no_event(refused.status, refused.message) from None
    source = known.get(str(given.get("routing_key"))) if isinstance(given, dict) else None
    if source is None:
        raise _no_event(400, "'routing_key' is not the key of a source here")
    return await take(service, source, request)


def _no_event(status: int, message: str) -> Refused:
    shape = {"status": "invalid event", "message": "Event object is invalid", "errors": [message]}
    return Refused(status, "invalid_request", message, body=shape)


async def _read(request: AnyRequest) -> HotRequest:
    """What the connection does not answer itself: long bodies, and whatever else is unusual."""
    scope = request.scope
    return HotRequest(scope["method"], scope["path"], "", list(scope["headers"]), await request.body())


def _response(answer: Answer) -> Response[Any]:
    return Response(answer.content, status_code=answer.status, media_type="application/json")


def _with_key(
    path: str, methods: Methods, answer: Any, status: int, name: str, text: str, about: str
) -> list[HTTPRouteHandler]:
    """The address with a source's key in its path, and the same without it, for a key in the header."""
    take = TAKES[path]

    async def by_path(key: str, request: AnyRequest, service: Service) -> Response[Any]:
        source = await source_keys.of_path(service, key)
        return _response(await take(service, source, await _read(request)))

    async def by_header(request: AnyRequest, service: Service) -> Response[Any]:
        source = await source_keys.of_header(service, request.headers.get("authorization"))
        return _response(await take(service, source, await _read(request)))

    hot = {"hot_below": b"/in/", "hot": by_key, "hot_only": WITH_KEY} if methods == ["POST"] else {}
    return [
        _route(f"/in/{{key:str}}{path}", methods, by_path, answer, status, name, f"{text}\n\n{about} {COMMITTED}", hot),
        _route(
            f"/in{path}", methods, by_header, answer, status, f"{name}_with_token",
            f"{text}, its key in a header\n\nAs bearer token, or as the password of basic authentication. {COMMITTED}",
        ),
    ]  # fmt: skip


def _with_routing_key(path: str, answer: Any, name: str, text: str) -> list[HTTPRouteHandler]:
    """The address as PagerDuty has it, where the key is in the body."""

    async def by_body(request: AnyRequest, service: Service) -> Response[Any]:
        return _response(await by_routing_key(service, await _read(request), TAKES[path]))

    place = path.encode()
    hot = {"hot_below": place, "hot": by_routing_key, "hot_only": re.compile(place)} if path == ENQUEUE else {}
    about = f"`routing_key` is the key of a source of type `pagerduty`. {COMMITTED}"
    return [_route(path, ["POST"], by_body, answer, 202, name, f"{text}\n\n{about}", hot)]


def _route(
    path: str, methods: Methods, handle: Any, answer: Any, status: int, name: str, text: str,
    hot: Mapping[str, Any] = MappingProxyType({}),
) -> HTTPRouteHandler:  # fmt: skip
    summary, _, rest = text.partition("\n\n")
    handle.__doc__ = rest
    handle.__annotations__["return"] = Response[answer]
    limit = pagerduty.MAX_BODY if status == 202 else BATCH_LIMIT
    return route(
        path, http_method=methods, status_code=status, summary=summary, request_max_body_size=limit,
        operation_id=lambda handler, method, _: name if method == "POST" else f"{name}_by_{method.lower()}",
        opt={"takes": "application/json", **hot},
    )(handle)  # fmt: skip


routes: list[Any] = [
    *_with_key(
        "", ["POST", "PUT"], Took, 200, "send_to_source", "Send alerts to a source",
        "What its type speaks: an Alertmanager's webhook (version 4), Grafana's, Uptime Kuma's, an event of "
        "PagerDuty's kind, or JSON as in the example or by the source's mapping.",
    ),
    *_with_key(
        "/api/v2/alerts", ["POST"], Took, 200, "send_alerts", "Send alerts as Prometheus does",
        "As to an Alertmanager (its API version 2). Of a body with bad alerts the good ones are taken, and the answer "
        "is 400. An alert that is not sent again ends at its `endsAt`, or after 5 minutes.",
    ),
    *_with_key(
        "/v2/enqueue", ["POST"], EventTaken, 202, "send_event", "Send an event of PagerDuty's kind",
        "As to its Events API v2; the `routing_key` does not matter here.",
    ),
    *_with_key(
        "/v2/change/enqueue", ["POST"], ChangeTaken, 202, "send_change",
        "Send a change event of PagerDuty's kind", "It is kept as a note.",
    ),
    *_with_routing_key(ENQUEUE, EventTaken, "enqueue", "Send an event as to PagerDuty"),
    *_with_routing_key(
        "/v2/change/enqueue", ChangeTaken, "enqueue_change", "Send a change event as to PagerDuty"
    ),
]  # fmt: skip
