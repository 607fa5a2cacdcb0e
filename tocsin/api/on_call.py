"""On-call schedules: who is on duty when, who takes over, and the calendar of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import QueryParameter

from tocsin.actions import limits
from tocsin.actions import on_call as actions
from tocsin.actions.base import Actor, anybody
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.domain import calendars, clients, ids, on_call
from tocsin.domain.calendars import Event
from tocsin.domain.errors import invalid_field, not_found
from tocsin.domain.on_call import DutySpan, Override, Schedule
from tocsin.domain.urls import read as read_url
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.channels import integrations
from tocsin.storage.notifying import feed_addresses
from tocsin.storage.notifying import on_call as stored
from tocsin.storage.notifying.on_call import StoredOverride
from tocsin.storage.postgres.database import Tx, transaction

MAX_DAYS, DEFAULT_DAYS = 92, 14
FEED_DAYS = 92
FEEDS = Limit(60, 600)
"""Of one network; calendar programs ask a few times an hour."""
TOO_OFTEN = "Too many calendars were asked for. Try again in {minutes} min"
YEARS = range(2000, 2100)
NOBODY = UUID(int=0)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class OverrideFields(msgspec.Struct, rename={"starts_at": "from", "ends_at": "until"}):
    """An integration of the project that is on duty from a time until another, whoever's turn it is."""

    integration_id: str
    starts_at: Moment
    ends_at: Moment


class OverrideGiven(msgspec.Struct):
    override: OverrideFields


class OverrideShown(msgspec.Struct, rename={"starts_at": "from", "ends_at": "until"}):
    uuid: str
    integration_id: str
    starts_at: str
    ends_at: str


class OverridesShown(msgspec.Struct):
    data: list[OverrideShown]


class DutyShown(msgspec.Struct):
    """`override`: somebody takes over, whoever's turn it is."""

    integration_uuid: str
    name: str
    starts_at: str
    ends_at: str
    override: bool


class ScheduleMeta(msgspec.Struct, rename={"from_": "from"}):
    """`on_duty` is who is now, and `until` when that may change; null: not by itself. `feed_url` is a calendar."""

    from_: str
    to: str
    on_duty: str | None
    until: str | None
    feed_url: str


class ScheduleShown(msgspec.Struct):
    data: list[DutyShown]
    meta: ScheduleMeta


class FeedShown(msgspec.Struct):
    feed_url: str


@get("/api/v1/integrations/{uuid:str}/overrides", summary="List who takes over")
async def list_(uuid: str, caller: Actor, service: Service) -> OverridesShown:
    """The overrides of an on-call schedule, by their beginnings; those that have ended for 92 days."""
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx:
        actions.on_call_one(await integrations.one(tx, service.vault, caller.project_id, key))
        return OverridesShown([_override(each) for each in await stored.overrides(tx, caller.project_id, key)])


@post("/api/v1/integrations/{uuid:str}/overrides", summary="Let somebody take over", status_code=201)
async def add(uuid: str, data: OverrideGiven, caller: Actor, service: Service) -> OverrideShown:
    """An integration of the project, one of the schedule's or another, is on duty from a time until another.

    Of overrides at the same time, the one that was made last counts. What waits is decided anew.
    """
    key, given = ids.key_of(ids.INTEGRATION, uuid), data.override
    for name, at in (("from", given.starts_at), ("until", given.ends_at)):
        if at.year not in YEARS:
            raise invalid_field(name, f"must be a time between {YEARS.start} and {YEARS.stop}")
    member = ids.parse(ids.INTEGRATION, given.integration_id) or NOBODY
    wanted = Override(member, given.starts_at.astimezone(UTC), given.ends_at.astimezone(UTC))
    async with transaction(service.pool) as tx:
        return _override(await actions.add_override(tx, caller, service.vault, key, wanted))


@delete("/api/v1/integrations/{uuid:str}/overrides/{override_id:str}", summary="Take back who takes over")
async def remove(uuid: str, override_id: str, caller: Actor, service: Service) -> None:
    """Whoever's turn it is is on duty again."""
    key, override = ids.key_of(ids.INTEGRATION, uuid), ids.key_of(ids.OVERRIDE, override_id)
    async with transaction(service.pool) as tx:
        await actions.delete_override(tx, caller, service.vault, key, override)


@get("/api/v1/integrations/{uuid:str}/schedule", summary="Get who is on duty when")
async def schedule(
    uuid: str,
    caller: Actor,
    service: Service,
    begin: Annotated[str | None, QueryParameter(name="from", description="ISO 8601; now, if left out.")] = None,
    end: Annotated[
        str | None, QueryParameter(name="to", description="ISO 8601, at most 92 days later; 14 days, if left out.")
    ] = None,
) -> ScheduleShown:
    """The spans of an on-call schedule, cut at both ends; a span in which nobody is on duty is left out."""
    key = ids.key_of(ids.INTEGRATION, uuid)
    now = datetime.now(UTC)
    start = now if begin is None else _moment(begin, "from")
    until = start + timedelta(days=DEFAULT_DAYS) if end is None else _moment(end, "to")
    if not start < until <= start + timedelta(days=MAX_DAYS):
        raise invalid_field("to", f"must be after from, by at most {MAX_DAYS} days")
    async with service.pool.acquire() as tx:
        actions.on_call_one(await integrations.one(tx, service.vault, caller.project_id, key))
        found = await _existing(tx, key)
        feed = await stored.feed(tx, key)
        assert feed is not None
        spans = on_call.spans(found, start, until)
        names = await stored.names_of(tx, caller.project_id, {each.integration for each in spans})
    duty, changes = on_call.on_duty(found, now), on_call.next_handover(found, now)
    return ScheduleShown(
        [_duty(each, names.get(each.integration, "")) for each in spans],
        ScheduleMeta(
            seconds(start), seconds(until), ids.public(ids.INTEGRATION, duty) if duty else None, seconds(changes),
            feed_addresses.address(service.vault, service.public_url, key, feed.number),
        ),
    )  # fmt: skip


@post("/api/v1/integrations/{uuid:str}/rotate_feed", summary="Change the calendar's address", status_code=200)
async def rotate_feed(uuid: str, caller: Actor, service: Service) -> FeedShown:
    """Whoever has the old address of an on-call schedule's calendar can no longer read it."""
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        number = await actions.rotate_feed(tx, caller, service.vault, key)
    return FeedShown(feed_addresses.address(service.vault, service.public_url, key, number))


@get(f"{feed_addresses.PATH}/{{file:str}}", include_in_schema=False)
async def calendar(request: Request[Any, Any, Any], file: str, service: Service) -> Response[bytes]:
    """A calendar for programs that subscribe to it: who knows its address may read it, until that is changed."""
    network = clients.network_of(request.scope, service.settings.trusted_proxies)
    async with transaction(service.pool) as tx:
        await limits.take(tx, anybody(), f"calendars by {network}", FEEDS, TOO_OFTEN)
    token = file.removesuffix(feed_addresses.SUFFIX)
    key = feed_addresses.named(token)
    now = datetime.now(UTC)
    async with service.pool.acquire() as tx:
        feed = await stored.feed(tx, key) if key else None
        if key is None or feed is None or not feed_addresses.is_valid(service.vault, token, key, feed.number):
            raise not_found("calendar")
        found = await _existing(tx, key)
        spans = on_call.spans(found, on_call.began(found, now), now + timedelta(days=FEED_DAYS))
        names = await stored.names_of(tx, feed.project_id, {each.integration for each in spans})
    uuid = ids.public(ids.INTEGRATION, key)
    page, host = f"{service.public_url}/integrations/{uuid}", read_url(service.public_url).host
    events = [
        Event(
            f"{uuid}-{each.starts_at:%Y%m%dT%H%M%SZ}@{host}", f"{names.get(each.integration, '?')} is on call",
            each.starts_at, each.ends_at, page, f"{feed.name}{', by arrangement' if each.override else ''}",
        )
        for each in spans
    ]  # fmt: skip
    body = await asyncio.to_thread(calendars.written, feed.name, events, now)
    headers = {"Cache-Control": "private, max-age=300", "X-Robots-Tag": "noindex"}
    return Response(body, media_type="text/calendar", headers=headers)


async def _existing(tx: Tx, key: UUID) -> Schedule:
    found = await stored.schedule_with_past(tx, key)
    if found is None:
        raise not_found("integration")
    return found


def _moment(text: str, field: str) -> datetime:
    try:
        at = msgspec.convert(text, Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        at = None
    if at is None or at.year not in YEARS:
        raise invalid_field(field, "must be a time such as 2026-06-01T07:00:00Z")
    return at


def _override(each: StoredOverride) -> OverrideShown:
    return OverrideShown(
        ids.public(ids.OVERRIDE, each.id), ids.public(ids.INTEGRATION, each.integration_id), seconds(each.starts_at),
        seconds(each.ends_at),
    )  # fmt: skip


def _duty(each: DutySpan, name: str) -> DutyShown:
    uuid = ids.public(ids.INTEGRATION, each.integration)
    return DutyShown(uuid, name, seconds(each.starts_at), seconds(each.ends_at), each.override)


routes: list[Any] = [list_, add, remove, schedule, rotate_feed, calendar]
