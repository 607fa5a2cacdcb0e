"""Network monitors: making, reading, changing, pausing and deleting them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import Parameter
from msgspec import UNSET, UnsetType

from tocsin.api.caller import Caller
from tocsin.api.integrations import WARNING_HEADER
from tocsin.api.service import Service
from tocsin.api.shapes import Meta, Page, seconds
from tocsin.checks import base
from tocsin.domain import ids, names
from tocsin.domain import monitors as domain
from tocsin.domain.errors import invalid, invalid_field, not_found
from tocsin.domain.monitors import Target, Wanted
from tocsin.settings import Settings
from tocsin.storage import audit, monitors
from tocsin.storage.monitors import Monitor
from tocsin.transports.guard import Guard

LONGEST_SEARCH = 200
OF_TARGET = ("url", "check_type", "timeout", "expected_status", "keyword")
"""Fields that are judged anew where one of them is given, and not otherwise: rules may have become stricter."""

Number = int | float
StatusToExpect = int | str | list[int | str]


class MonitorFields(msgspec.Struct):
    """What can be said about a monitor. Left out or null: the default; on a change, left out stays as it is.

    `interval` and `timeout` are seconds. `expected_status` is a status, a class such as `2xx`, or a list of these.
    `keyword` is looked for in the first MiB of the page, in the page's own charset and with its HTML entities read. Up
    to 5 redirects are followed, unless `expected_status` names theirs.
    """

    name: str | UnsetType | None = UNSET
    url: str | UnsetType = UNSET
    check_type: str | UnsetType | None = UNSET
    interval: Number | UnsetType | None = UNSET
    timeout: Number | UnsetType | None = UNSET
    confirmations: int | UnsetType | None = UNSET
    expected_status: StatusToExpect | UnsetType | None = UNSET
    keyword: str | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET


class MonitorGiven(msgspec.Struct):
    network_monitor: MonitorFields


class MonitorListed(msgspec.Struct):
    """A monitor and how it fares: `uptime` is percent over 30 days, `response_time` milliseconds at the last check."""

    id: int
    uuid: str
    name: str
    url: str
    check_type: str
    status: Literal["error", "success", "pending", "paused"]
    uptime: float | None
    response_time: float | None
    last_check: str | None
    open_incident_uuids: list[str]
    created_at: str


class MonitorShown(MonitorListed):
    """A monitor with its settings. `expected_status` and `keyword` are null where the check knows no such thing."""

    interval: Number
    timeout: Number
    confirmations: int
    expected_status: StatusToExpect | None
    keyword: str | None
    paused: bool
    updated_at: str


class MonitorsMeta(Meta):
    """Which page this is, how many there are, and in which order."""

    sort: str


class Monitors(msgspec.Struct):
    data: list[MonitorListed]
    meta: MonitorsMeta


@get("/api/v1/network_monitors", summary="List network monitors")
async def list_(
    caller: Caller,
    service: Service,
    asked: Page,
    sort: Annotated[
        Literal["status", "created_at"],
        Parameter(description="`status`: with incidents, then successful, then paused; `created_at`: newest first."),
    ] = "status",
    search: Annotated[
        str, Parameter(max_length=LONGEST_SEARCH, description="A part of name or URL, in whatever case.")
    ] = "",
) -> Monitors:
    """The project's monitors, a page at a time."""
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
async def create(data: MonitorGiven, caller: Caller, service: Service) -> Response[MonitorShown]:
    """Begins to watch a URL; the first check follows at once.

    Only `url` is needed. Up to 5 redirects are followed, unless `expected_status` names theirs. Where the URL cannot be
    reached at present, the header `Tocsin-Warning` says why.
    """
    given = data.network_monitor
    if given.url is UNSET:
        raise invalid_field("url", "is required")
    wanted = _wanted(given, None, service.settings)
    headers = await _reachable(service, wanted)
    async with service.pool.acquire() as tx, tx.transaction():
        new = await monitors.create(tx, caller.project_id, wanted)
        made = await monitors.one(tx, caller.project_id, new)
        uuid = ids.public(ids.MONITOR, new)
        await audit.note(tx, caller.project_id, caller.who, "made network monitor", wanted.name, {"uuid": uuid})
    return Response(_shown(made), status_code=201, headers=headers)


@get("/api/v1/network_monitors/{uuid:str}", summary="Get a network monitor")
async def one(uuid: str, caller: Caller, service: Service) -> MonitorShown:
    """One monitor with its settings."""
    async with service.pool.acquire() as tx:
        found = await monitors.one(tx, caller.project_id, ids.key_of(ids.MONITOR, uuid))
    return _shown(found)


@patch("/api/v1/network_monitors/{uuid:str}", summary="Change or pause a network monitor")
async def change(uuid: str, data: MonitorGiven, caller: Caller, service: Service) -> Response[MonitorShown]:
    """Changes what is given. What concerns the checks starts them anew, at once; pausing resolves its incidents."""
    given, key = data.network_monitor, ids.key_of(ids.MONITOR, uuid)
    headers: dict[str, str] = {}
    if not isinstance(given.url, UnsetType):
        async with service.pool.acquire() as tx:
            before = _shown_wanted(await monitors.one(tx, caller.project_id, key))
        # Looked up before the transaction: no row is held while a name server thinks.
        headers = await _reachable(service, _wanted(given, before, service.settings))
    async with service.pool.acquire() as tx, tx.transaction():
        stored = await monitors.changing(tx, caller.project_id, key)
        if stored is None:
            raise not_found("network_monitor")
        await monitors.change(tx, caller.project_id, key, stored, _wanted(given, stored, service.settings))
        fields = [name for name in given.__struct_fields__ if getattr(given, name) is not UNSET]
        await audit.note(
            tx, caller.project_id, caller.who, "changed network monitor", stored.name, {"uuid": uuid, "fields": fields}
        )
        changed = await monitors.one(tx, caller.project_id, key)
    return Response(_shown(changed), headers=headers)


@delete("/api/v1/network_monitors/{uuid:str}", summary="Delete a network monitor")
async def remove(uuid: str, caller: Caller, service: Service) -> None:
    """Deletes a monitor and resolves its incidents."""
    async with service.pool.acquire() as tx, tx.transaction():
        found = await monitors.one(tx, caller.project_id, ids.key_of(ids.MONITOR, uuid))
        if found is None or not await monitors.delete(tx, caller.project_id, found.id):
            raise not_found("network_monitor")
        await audit.note(
            tx, caller.project_id, caller.who, "deleted network monitor", found.wanted.name, {"uuid": uuid}
        )


def _wanted(given: MonitorFields, stored: Wanted | None, settings: Settings) -> Wanted:
    """What is to be watched from now on. Raises `Refused` (422), naming each field that cannot be accepted."""
    start = stored or _default(str(given.url))
    target = start.target
    if stored is None or any(getattr(given, field) is not UNSET for field in OF_TARGET):
        target = _target(given, start, stored)
    wanted = Wanted(
        name=_name(given.name, target.url, start),
        target=target,
        interval=_said(given.interval, start.interval, domain.DEFAULT_INTERVAL),
        confirmations=_said(given.confirmations, start.confirmations, domain.DEFAULT_CONFIRMATIONS),
        paused=_said(given.paused, start.paused, False),
    )
    least = domain.LEAST_INTERVAL if settings.production else domain.LEAST_INTERVAL_IN_DEVELOPMENT
    if wrong := domain.check_numbers(wanted, least):
        raise invalid("; ".join(f"{detail.field} {detail.message}" for detail in wrong), *wrong)
    return wanted


def _target(given: MonitorFields, start: Wanted, stored: Wanted | None) -> Target:
    url = _said(given.url, start.target.url, None)
    named = _said(given.check_type, start.target.check_type if stored else None, None)
    kind = base.of(named, url)
    same_kind = stored is not None and kind.check_type == start.target.check_type
    return kind.validate(
        Target(
            url=url,
            check_type=kind.check_type,
            timeout=_said(given.timeout, start.target.timeout, domain.DEFAULT_TIMEOUT),
            expected_status=_said(given.expected_status, start.target.expected_status if same_kind else None, None),
            keyword=_said(given.keyword, start.target.keyword if same_kind else None, None),
        )
    )


def _default(url: str) -> Wanted:
    return Wanted(url, Target(url, "", domain.DEFAULT_TIMEOUT))


def _said(given: Any, stored: Any, default: Any) -> Any:
    return stored if given is UNSET else default if given is None else given


def _name(given: str | UnsetType | None, url: str, start: Wanted) -> str:
    """The name, which is the URL unless its owner chose another."""
    if isinstance(given, UnsetType):
        return url if start.name == start.target.url else start.name
    return names.checked("name", given) if given and given.strip() else url


async def _reachable(service: Service, wanted: Wanted) -> dict[str, str]:
    """Refuse a host that can never be looked at; for one that cannot be at present, the header that says so."""
    guard, host = Guard(service.settings.allow_networks), base.host_of(wanted.target.url)
    guard.check_given(host, "url")
    warning = await guard.warning(host)
    return {} if warning is None else {WARNING_HEADER: warning}


def _figures(monitor: Monitor) -> dict[str, Any]:
    target = monitor.wanted.target
    return {
        "id": monitor.number,
        "uuid": ids.public(ids.MONITOR, monitor.id),
        "name": monitor.wanted.name,
        "url": target.url,
        "check_type": target.check_type,
        "status": monitor.status,
        "uptime": None if monitor.uptime is None else round(monitor.uptime, 3),
        "response_time": None if monitor.last_response_ms is None else round(monitor.last_response_ms, 1),
        "last_check": seconds(monitor.last_check_at),
        "open_incident_uuids": [ids.public(ids.INCIDENT, incident) for incident in monitor.open_incidents],
        "created_at": seconds(monitor.created_at),
    }


def _shown_wanted(monitor: Monitor | None) -> Wanted:
    if monitor is None:
        raise not_found("network_monitor")
    return monitor.wanted


def _shown(monitor: Monitor | None) -> MonitorShown:
    wanted = _shown_wanted(monitor)
    assert monitor
    return MonitorShown(
        **_figures(monitor),
        interval=_plain(wanted.interval),
        timeout=_plain(wanted.target.timeout),
        confirmations=wanted.confirmations,
        expected_status=wanted.target.expected_status,
        keyword=wanted.target.keyword,
        paused=wanted.paused,
        updated_at=seconds(monitor.updated_at),
    )


def _plain(value: float) -> Number:
    """60 rather than 60.0."""
    return int(value) if value.is_integer() else value


routes = [list_, create, one, change, remove]
