"""Network monitors: creating, reading, changing, pausing and deleting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import Parameter
from msgspec import UNSET, UnsetType

from tocsin.actions import monitors as actions
from tocsin.actions.base import Actor
from tocsin.actions.monitors import MonitorFields, Number
from tocsin.api.integrations import WARNING_HEADER
from tocsin.api.schemas import Explanation, Meta, Page, explanations, seconds
from tocsin.api.service import Service
from tocsin.checks import base
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.domain.monitors import MonitorConfig
from tocsin.domain.registrations import Registration
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.monitoring import monitors
from tocsin.storage.monitoring.monitors import Monitor
from tocsin.storage.monitoring.places import Seen
from tocsin.storage.postgres.database import transaction

MAX_SEARCH_LENGTH = 200


class MonitorGiven(msgspec.Struct):
    network_monitor: MonitorFields


class MonitorListed(msgspec.Struct):
    """A monitor and its status: `uptime` is percent over 30 days, `response_time` milliseconds at the last check.

    It is `unreachable` while all that is wrong with it is explained by something that it depends on and that is down;
    that time counts neither as up nor as down.
    """

    id: int
    uuid: str
    name: str
    url: str
    check_type: str
    status: Literal["error", "unreachable", "success", "pending", "paused"]
    explained_by: list[Explanation]
    uptime: float | None
    response_time: float | None
    last_check: str | None
    open_incident_uuids: list[str]
    created_at: str


class DomainShown(msgspec.Struct):
    """The domain that `domain_days` is about. `expires_at` is null until its registry has said; `problem` is why it
    has not, or nothing newer. `checked_at` is when it was last asked.
    """

    name: str
    expires_at: str | None
    checked_at: str | None
    problem: str | None


class PlaceShown(msgspec.Struct):
    """What a place saw last, and whether it has a vote at present; `last_check` is null while it has seen nothing."""

    place: str
    problem: str | None
    message: str | None
    response_time: float | None
    last_check: str | None
    votes: bool


class _Settings(MonitorListed):
    """A monitor with its settings: of the options, those that its check type knows, secret ones masked.

    Half of the response times of the last 24 hours were within `response_time_p50` milliseconds, 95 of 100 within
    `response_time_p95`; within 4 %. `places`: what each of its `locations` saw last.
    """

    response_time_p50: float | None
    response_time_p95: float | None

    interval: Number
    timeout: Number
    confirmations: int
    recoveries: int
    paused: bool
    depends_on: list[str | list[str]]
    domain: DomainShown | None
    locations: list[str] | None
    places: list[PlaceShown]
    updated_at: str


if TYPE_CHECKING:
    MonitorShown = _Settings
else:
    MonitorShown = msgspec.defstruct(
        "MonitorShown",
        [(name, annotation | UnsetType | None, UNSET) for name, annotation in base.options().items()],
        bases=(_Settings,), module=__name__, namespace={"__doc__": _Settings.__doc__},
    )  # fmt: skip


class MonitorsMeta(Meta):
    """Which page this is, how many there are, and in which order."""

    sort: str


class Monitors(msgspec.Struct):
    data: list[MonitorListed]
    meta: MonitorsMeta


@get("/api/v1/network_monitors", summary="List network monitors")
async def list_(
    caller: Actor,
    service: Service,
    asked: Page,
    sort: Annotated[
        Literal["status", "created_at"],
        Parameter(description="`status`: with incidents, then successful, then paused; `created_at`: newest first."),
    ] = "status",
    search: Annotated[
        str, Parameter(max_length=MAX_SEARCH_LENGTH, description="A part of name or URL, case-insensitive.")
    ] = "",
) -> Monitors:
    """The project's monitors, paginated."""
    async with service.pool.acquire() as tx:
        found, total = await monitors.list_(
            tx, caller.project_id, search=search, sort=sort, limit=asked.per_page, offset=asked.offset
        )
    meta = asked.meta(total)
    return Monitors(
        [MonitorListed(**_figures(monitor)) for monitor in found],
        MonitorsMeta(meta.current_page, meta.per_page, meta.total_pages, meta.total_count, sort),
    )


@post("/api/v1/network_monitors", summary="Create a network monitor", status_code=201)
async def create(data: MonitorGiven, caller: Actor, service: Service) -> Response[MonitorShown]:
    """Starts to monitor a URL; the first check follows at once.

    Only `url` is needed. Up to 5 redirects are followed, unless `expected_status` names theirs. If the URL cannot be
    reached at present, the header `Tocsin-Warning` says why.
    """
    wanted = actions.wanted(data.network_monitor, None, production=service.settings.production)
    headers = await _reachable(service, wanted)
    async with transaction(service.pool) as tx:
        made = await actions.create(tx, caller, service.vault, wanted, data.network_monitor.depends_on or None)
    return Response(_shown(made), status_code=201, headers=headers)


@get("/api/v1/network_monitors/{uuid:str}", summary="Get a network monitor")
async def one(uuid: str, caller: Actor, service: Service) -> MonitorShown:
    """One monitor with its settings."""
    async with service.pool.acquire() as tx:
        found = await monitors.one(tx, service.vault, caller.project_id, NETWORK_MONITOR.key_of(uuid))
    return _shown(found)


@patch("/api/v1/network_monitors/{uuid:str}", summary="Change or pause a network monitor")
async def change(uuid: str, data: MonitorGiven, caller: Actor, service: Service) -> Response[MonitorShown]:
    """Changes what is given. Changes that concern the checks restart them at once; pausing resolves its incidents."""
    given, key = data.network_monitor, NETWORK_MONITOR.key_of(uuid)
    production, headers = service.settings.production, dict[str, str]()
    if given.url is not UNSET:
        async with service.pool.acquire() as tx:
            before = _shown_wanted(await monitors.one(tx, service.vault, caller.project_id, key))
        headers = await _reachable(service, actions.wanted(given, before, production=production))
    async with transaction(service.pool) as tx:
        changed = await actions.change(tx, caller, service.vault, key, given, production=production)
    return Response(_shown(changed), headers=headers)


@delete("/api/v1/network_monitors/{uuid:str}", summary="Delete a network monitor")
async def remove(uuid: str, caller: Actor, service: Service) -> None:
    """Deletes a monitor and resolves its incidents."""
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, service.vault, NETWORK_MONITOR.key_of(uuid))


async def _reachable(service: Service, wanted: MonitorConfig) -> dict[str, str]:
    """Refuse a host that can never be checked; for one that cannot be reached at present, return the header."""
    warning = await actions.reachable(wanted, service.settings.allow_networks)
    return {} if warning is None else {WARNING_HEADER: warning}


def _figures(monitor: Monitor) -> dict[str, Any]:
    target = monitor.wanted.target
    return {
        "id": monitor.number,
        "uuid": NETWORK_MONITOR.public(monitor.id),
        "name": monitor.wanted.name,
        "url": target.url,
        "check_type": target.check_type,
        "status": monitor.status,
        "explained_by": explanations(monitor.explained_by),
        "uptime": None if monitor.uptime is None else round(monitor.uptime, 3),
        "response_time": None if monitor.last_response_ms is None else round(monitor.last_response_ms, 1),
        "last_check": seconds(monitor.last_check_at),
        "open_incident_uuids": [ids.public(ids.INCIDENT, incident) for incident in monitor.open_incidents],
        "created_at": seconds(monitor.created_at),
    }


def _shown_wanted(monitor: Monitor | None) -> MonitorConfig:
    if monitor is None:
        raise not_found("network_monitor")
    return monitor.wanted


def _shown(monitor: Monitor | None) -> MonitorShown:
    wanted = _shown_wanted(monitor)
    assert monitor
    times, known = monitor.percentiles, monitor.registration
    return MonitorShown(
        **_figures(monitor),
        response_time_p50=None if times is None else round(times.p50, 1),
        response_time_p95=None if times is None else round(times.p95, 1),
        interval=_plain(wanted.interval),
        timeout=_plain(wanted.target.timeout),
        confirmations=wanted.confirmations,
        recoveries=wanted.recoveries,
        **base.shown_options(wanted.target),
        paused=wanted.paused,
        depends_on=monitor.depends_on,
        domain=None if known is None else _domain(known),
        locations=None if wanted.locations is None else list(wanted.locations),
        places=[_place(each) for each in monitor.seen_from if not each.gone],
        updated_at=seconds(monitor.updated_at),
    )


def _domain(known: Registration) -> DomainShown:
    return DomainShown(known.name, seconds(known.expires_at), seconds(known.checked_at), known.problem)


def _place(seen: Seen) -> PlaceShown:
    time = None if seen.response_ms is None else round(seen.response_ms, 1)
    return PlaceShown(seen.place, seen.problem, seen.message, time, seconds(seen.at), seen.lives)


def _plain(value: float) -> Number:
    """60 rather than 60.0."""
    return int(value) if value.is_integer() else value


routes = [list_, create, one, change, remove]
