"""Heartbeats: creating, reading, changing, pausing and deleting them; their pings; the key for pings by slug."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import delete, get, patch, post
from litestar.params import Parameter

from tocsin.actions import heartbeats as actions
from tocsin.actions.base import Actor
from tocsin.actions.heartbeats import HeartbeatFields, Number
from tocsin.api.schemas import Explanation, Listed, Meta, Page, explanations, millis, seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.domain.heartbeats import Methods
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.monitoring import heartbeats, pings
from tocsin.storage.monitoring.heartbeats import Heartbeat
from tocsin.storage.monitoring.pings import Logged
from tocsin.storage.postgres.database import Tx, transaction

MAX_SEARCH_LENGTH = 200
MASK = "********"


class HeartbeatGiven(msgspec.Struct):
    heartbeat: HeartbeatFields


class HeartbeatShown(msgspec.Struct):
    """A heartbeat and its status. `ping_url` is where its job reports; the secret in it is masked for readers.

    `new`: no ping yet; `running`: a run has started and not ended; `late`: due, and in its grace; `down`: an incident
    is ongoing, of which `explained_by` names what is down and explains it. A success is expected by `next_due_at`.
    """

    uuid: str
    name: str
    slug: str | None
    status: Literal["new", "up", "running", "late", "down", "paused"]
    period: Number | None
    cron: str | None
    timezone: str
    grace: Number
    methods: Methods
    paused: bool
    ping_url: str
    last_ping_at: str | None
    last_success_at: str | None
    next_due_at: str | None
    last_duration_ms: float | None
    running_since: str | None
    open_incident_uuids: list[str]
    explained_by: list[Explanation]
    depends_on: list[str | list[str]]
    created_at: str
    updated_at: str


class HeartbeatsMeta(Meta):
    """Which page this is, how many there are, and in which order."""

    sort: str


class Heartbeats(msgspec.Struct):
    data: list[HeartbeatShown]
    meta: HeartbeatsMeta


class PingShown(msgspec.Struct):
    """A ping. Those of more than 100 in a minute are `gathered`, `count` of them; failures are kept one by one.

    `n` counts a heartbeat's pings. Bodies are kept for the last 100 pings that had one.
    """

    n: int
    at: str
    kind: Literal["success", "fail", "start", "log", "ignored", "gathered"]
    exit_status: int | None
    rid: str | None
    method: str
    duration_ms: float | None
    body_bytes: int
    has_body: bool
    count: int


class BodyShown(msgspec.Struct):
    n: int
    body: str


class PingKey(msgspec.Struct):
    """The key for pings that name a heartbeat by its slug: `ping_url` followed by the slug. Null until it is made."""

    ping_key: str | None
    ping_url: str | None


@get("/api/v1/heartbeats", summary="List heartbeats")
async def list_(
    caller: Actor,
    service: Service,
    asked: Page,
    sort: Annotated[
        Literal["status", "name", "created_at"],
        Parameter(description="`status`: with incidents, then without, then paused; `created_at`: newest first."),
    ] = "status",
    search: Annotated[
        str, Parameter(max_length=MAX_SEARCH_LENGTH, description="A part of name or slug, case-insensitive.")
    ] = "",
) -> Heartbeats:
    """The project's heartbeats, paginated."""
    async with service.pool.acquire() as tx:
        found, total = await heartbeats.list_(
            tx, service.vault, caller.project_id, search=search, sort=sort, limit=asked.per_page, offset=asked.offset
        )
    meta = asked.meta(total)
    return Heartbeats(
        [_shown(service, caller, each) for each in found],
        HeartbeatsMeta(meta.current_page, meta.per_page, meta.total_pages, meta.total_count, sort),
    )


@post("/api/v1/heartbeats", summary="Create a heartbeat", status_code=201)
async def create(data: HeartbeatGiven, caller: Actor, service: Service) -> HeartbeatShown:
    """Waits for a job that must report: nothing is expected before the first ping.

    Only `name` is needed: then a success is expected once a day, with an hour of grace.
    """
    wanted = actions.wanted(data.heartbeat, None, production=service.settings.production)
    async with transaction(service.pool) as tx:
        made = await actions.create(tx, caller, service.vault, wanted, data.heartbeat.depends_on or None)
    return _shown(service, caller, made)


@get("/api/v1/heartbeats/{uuid:str}", summary="Get a heartbeat")
async def one(uuid: str, caller: Actor, service: Service) -> HeartbeatShown:
    """One heartbeat."""
    async with service.pool.acquire() as tx:
        return _shown(service, caller, await _existing(tx, service, caller, uuid))


@patch("/api/v1/heartbeats/{uuid:str}", summary="Change or pause a heartbeat")
async def change(uuid: str, data: HeartbeatGiven, caller: Actor, service: Service) -> HeartbeatShown:
    """Changes what is given. With another schedule, it is next due at a time still to come; pausing resolves its
    incidents.
    """
    async with transaction(service.pool) as tx:
        changed = await actions.change(
            tx, caller, service.vault, HEARTBEAT.key_of(uuid), data.heartbeat, production=service.settings.production
        )
    return _shown(service, caller, changed)


@post("/api/v1/heartbeats/{uuid:str}/rotate", summary="Change a heartbeat's ping address", status_code=200)
async def rotate(uuid: str, caller: Actor, service: Service) -> HeartbeatShown:
    """Gives it another `ping_url`; the old one no longer works."""
    async with transaction(service.pool) as tx:
        changed = await actions.rotate(tx, caller, service.vault, HEARTBEAT.key_of(uuid))
    return _shown(service, caller, changed)


@delete("/api/v1/heartbeats/{uuid:str}", summary="Delete a heartbeat")
async def remove(uuid: str, caller: Actor, service: Service) -> None:
    """Deletes a heartbeat and resolves its incidents."""
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, service.vault, HEARTBEAT.key_of(uuid))


@get("/api/v1/heartbeats/{uuid:str}/pings", summary="List a heartbeat's pings")
async def pings_of(uuid: str, caller: Actor, service: Service, asked: Page) -> Listed[PingShown]:
    """Newest first, as long as raw history is kept."""
    async with service.pool.acquire() as tx:
        found = await _existing(tx, service, caller, uuid)
        total = await pings.count(tx, found.id)
        rows = await pings.list_(tx, found.id, limit=asked.per_page, offset=asked.offset)
    return Listed([_ping(each) for each in rows], asked.meta(total))


@get("/api/v1/heartbeats/{uuid:str}/pings/{n:str}/body", summary="Get the body of a ping")
async def body_of(uuid: str, n: str, caller: Actor, service: Service) -> BodyShown:
    """What a job sent with a ping: up to 100,000 bytes, as text."""
    number = int(n) if n.isascii() and n.isdecimal() and len(n) < 19 else 0
    async with service.pool.acquire() as tx:
        found = await _existing(tx, service, caller, uuid)
        body = await pings.body(tx, found.id, number)
    if body is None:
        raise not_found("body")
    return BodyShown(number, body)


@get("/api/v1/ping_key", summary="Get the project's ping key")
async def ping_key(caller: Actor, service: Service) -> PingKey:
    """One secret for all of a project's heartbeats, which its pings name by their slugs; masked for readers."""
    async with service.pool.acquire() as tx:
        found = await heartbeats.ping_key(tx, service.vault, caller.project_id)
    return _key(service, MASK if found and caller.role == "reader" else found)


@post("/api/v1/ping_key/rotate", summary="Make a new ping key", status_code=200)
async def new_ping_key(caller: Actor, service: Service) -> PingKey:
    """Makes the project's ping key, or another; the old one no longer works."""
    async with transaction(service.pool) as tx:
        made = await actions.new_ping_key(tx, caller, service.vault)
    return _key(service, made)


async def _existing(tx: Tx, service: Service, caller: Actor, uuid: str) -> Heartbeat:
    found = await heartbeats.one(tx, service.vault, caller.project_id, HEARTBEAT.key_of(uuid))
    if found is None:
        raise not_found("heartbeat")
    return found


def ping_url(service: Service, key: str) -> str:
    """The address of pings with that key."""
    return f"{service.public_url}/ping/{key}"


def _key(service: Service, key: str | None) -> PingKey:
    return PingKey(key, None if key is None else ping_url(service, key))


def _shown(service: Service, caller: Actor, each: Heartbeat) -> HeartbeatShown:
    wanted, schedule = each.wanted, each.wanted.schedule
    status: Any = each.status
    return HeartbeatShown(
        uuid=HEARTBEAT.public(each.id),
        name=wanted.name,
        slug=wanted.slug,
        status=status,
        period=None if schedule.period is None else _plain(schedule.period),
        cron=schedule.cron,
        timezone=schedule.timezone,
        grace=_plain(schedule.grace),
        methods=wanted.methods,
        paused=wanted.paused,
        ping_url=ping_url(service, MASK if caller.role == "reader" else each.ping_key),
        last_ping_at=millis(each.last_ping_at),
        last_success_at=millis(each.last_success_at),
        next_due_at=None if wanted.paused else millis(each.due_at),
        last_duration_ms=None if each.last_duration_ms is None else round(each.last_duration_ms, 1),
        running_since=millis(each.running_since),
        open_incident_uuids=[ids.public(ids.INCIDENT, incident) for incident in each.open_incidents],
        explained_by=explanations(each.explained_by),
        depends_on=each.depends_on,
        created_at=seconds(each.created_at),
        updated_at=seconds(each.updated_at),
    )


def _ping(each: Logged) -> PingShown:
    kind: Any = each.kind
    return PingShown(
        n=each.n, at=millis(each.at), kind=kind, exit_status=each.exit_status,
        rid=None if each.rid is None else str(each.rid), method=each.method,
        duration_ms=None if each.duration_ms is None else round(each.duration_ms, 1), body_bytes=each.body_bytes,
        has_body=each.has_body, count=each.count,
    )  # fmt: skip


def _plain(value: float) -> Number:
    """60 rather than 60.0."""
    return int(value) if value.is_integer() else value


routes: list[Any] = [
    list_, create, one, change, rotate, remove, pings_of, body_of, ping_key, new_ping_key,
]  # fmt: skip
