"""Heartbeats: created, changed, paused, deleted; their ping addresses; and pings."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tocsin.actions import dependencies
from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.actions.batches import PingBatch
from tocsin.domain import cron, names, zones
from tocsin.domain import heartbeats as domain
from tocsin.domain.errors import Detail, forbidden_state, invalid, invalid_field, not_found
from tocsin.domain.heartbeats import HeartbeatConfig, Methods, Schedule
from tocsin.domain.pings import Ping
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.monitoring import heartbeats as stored
from tocsin.storage.monitoring.heartbeats import Heartbeat
from tocsin.storage.monitoring.pings import Result
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

Number = int | float
MAX_CREATED = 100_000
"""Heartbeats of a project, however they are created."""


class HeartbeatFields(msgspec.Struct):
    """A heartbeat's configuration. Omitted or null: the default; on a change, what is omitted stays.

    A success is expected every `period` seconds, or at the times of `cron` (five fields) in `timezone`; giving one
    replaces the other. `grace` is how many seconds later it may come, and how long a run may take. With `methods` of
    `POST`, GET and HEAD requests to its address change nothing. While any of those that it `depends_on` is down,
    nobody is notified that it is missed; of an inner list, all must be down.
    """

    name: str | UnsetType | None = UNSET
    slug: str | UnsetType | None = UNSET
    period: Number | UnsetType | None = UNSET
    cron: str | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    grace: Number | UnsetType | None = UNSET
    methods: Methods | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET
    depends_on: list[str | list[str]] | UnsetType | None = UNSET


def wanted(given: HeartbeatFields, before: HeartbeatConfig | None, *, production: bool) -> HeartbeatConfig:
    """The resulting configuration. Raises `Refused` (422), naming each field that cannot be accepted."""
    if before is None and (not isinstance(given.name, str) or not given.name.strip()):
        raise invalid_field("name", "is required")
    name = before.name if before is not None and given.name is UNSET else names.checked("name", str(given.name or ""))
    start = before or HeartbeatConfig(name, domain.slug_of(name))
    schedule = _schedule(given, start.schedule)
    wrong = domain.check_numbers(schedule, least_period(production=production))
    if before is not None:  # rules may have become stricter for what stays as it is
        wrong = [detail for detail in wrong if getattr(given, detail.field) is not UNSET]
    if wrong:
        raise invalid("; ".join(f"{detail.field} {detail.message}" for detail in wrong), *wrong)
    return HeartbeatConfig(
        name, _slug(given.slug, start, name), schedule, _or(given.methods, start.methods, ""),
        _or(given.paused, start.paused, False),
    )  # fmt: skip


def least_period(*, production: bool) -> float:
    """Seconds."""
    return domain.MIN_PERIOD if production else domain.MIN_PERIOD_IN_DEVELOPMENT


def _schedule(given: HeartbeatFields, start: Schedule) -> Schedule:
    by_period, by_cron = isinstance(given.period, int | float), isinstance(given.cron, str)
    if by_period and by_cron:
        detail = "must be null where there is a cron expression"
        raise invalid(f"period {detail}", Detail("period", detail))
    period, expression = start.period, start.cron
    if isinstance(given.cron, str):
        period, expression = None, cron.checked("cron", given.cron)
    elif isinstance(given.period, int | float):
        period, expression = float(given.period), None
    elif given.cron is None and given.period is not None and expression is not None:
        period, expression = domain.DEFAULT_PERIOD, None
    elif given.period is None and expression is None:
        period = domain.DEFAULT_PERIOD
    timezone = _or(given.timezone, start.timezone, "UTC")
    timezone = zones.checked(timezone, "timezone") if given.timezone is not UNSET else timezone
    return Schedule(period, expression, timezone, float(_or(given.grace, start.grace, domain.DEFAULT_GRACE)))


def _slug(given: str | UnsetType | None, start: HeartbeatConfig, name: str) -> str | None:
    if isinstance(given, UnsetType):
        return start.slug
    if given is None or not given:
        return None
    if len(given) > domain.MAX_SLUG_LENGTH or not domain.SLUG.fullmatch(given):
        most = domain.MAX_SLUG_LENGTH
        raise invalid_field("slug", f"must be up to {most} of a to z, 0 to 9, hyphens and underscores")
    return given


@action("made heartbeat")
async def create(
    tx: Tx, actor: Actor, vault: Vault, made: HeartbeatConfig, depends_on: object = None
) -> tuple[Heartbeat, Change]:
    """Create a heartbeat. Nothing is expected of it before its first ping."""
    key = await stored.create(tx, vault, actor.project_id, made)
    if await stored.count(tx, actor.project_id, MAX_CREATED + 1) > MAX_CREATED:
        raise forbidden_state(f"A project has at most {MAX_CREATED:,} heartbeats; delete some first")
    if depends_on:
        await dependencies.change(tx, actor, HEARTBEAT, key, depends_on)
    found = await stored.one(tx, vault, actor.project_id, key)
    assert found is not None
    return found, Change(made.name, {"uuid": HEARTBEAT.public(key)})


@action("changed heartbeat")
async def change(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: HeartbeatFields, *, production: bool
) -> tuple[Heartbeat, Change | None]:
    """Change what is given. With another schedule, it is due at a slot to come; pausing resolves its incidents."""
    if given.depends_on is not UNSET:
        await dependencies.change(tx, actor, HEARTBEAT, key, given.depends_on)
    before = await stored.changing(tx, actor.project_id, key)
    if before is None:
        raise not_found("heartbeat")
    after = wanted(given, before, production=production)
    differing = _differing(before, after)
    if differing:
        await stored.change(tx, key, before, after)
    found = await stored.one(tx, vault, actor.project_id, key)
    assert found is not None
    change_ = Change(before.name, {"uuid": HEARTBEAT.public(key), "fields": differing})
    return found, change_ if differing else None


@action("changed the address of heartbeat")
async def rotate(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Heartbeat, Change]:
    """Give it another ping address; the old one no longer works."""
    if not await stored.rotate_key(tx, vault, actor.project_id, key):
        raise not_found("heartbeat")
    found = await stored.one(tx, vault, actor.project_id, key)
    assert found is not None
    return found, Change(found.wanted.name, {"uuid": HEARTBEAT.public(key)})


@action("deleted heartbeat")
async def delete(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Heartbeat, Change]:
    """Delete a heartbeat and resolve its incidents. Returns its last state."""
    found = await stored.one(tx, vault, actor.project_id, key)
    if found is None or not await stored.delete(tx, actor.project_id, key):
        raise not_found("heartbeat")
    return found, Change(found.wanted.name, {"uuid": HEARTBEAT.public(key)})


@action("made a new ping key")
async def new_ping_key(tx: Tx, actor: Actor, vault: Vault) -> tuple[str, Change]:
    """Make the project's ping key, or another; the old one no longer works. Returns it."""
    return await stored.new_ping_key(tx, vault, actor.project_id), Change("ping key")


@unrecorded("the pings are its record", by=SYSTEM)
async def ping(batch: PingBatch, actor: Actor, given: Ping) -> Result:
    """Apply a ping to the heartbeat that it names, and open or resolve what follows."""
    return await batch(given)


@action("made heartbeat", by=SYSTEM)
async def provision(
    tx: Tx, actor: Actor, vault: Vault, ping_key: str, slug: str
) -> tuple[bool, Change | None]:
    """Create the heartbeat of that slug, with the defaults, in the project of that ping key. Returns whether it did."""
    project_id = await stored.provision(tx, vault, ping_key, slug)
    if project_id is None:
        return False, None
    key = await stored.create(tx, vault, project_id, HeartbeatConfig(slug, slug))
    return True, Change(slug, {"uuid": HEARTBEAT.public(key)}, project_id)


def _differing(before: HeartbeatConfig, after: HeartbeatConfig) -> list[str]:
    """The names of the fields that differ."""
    was, now = _fields(before), _fields(after)
    return [name for name in now if now[name] != was[name]]


def _fields(each: HeartbeatConfig) -> dict[str, Any]:
    schedule = each.schedule
    return {
        "name": each.name, "slug": each.slug, "period": schedule.period, "cron": schedule.cron,
        "timezone": schedule.timezone, "grace": schedule.grace, "methods": each.methods, "paused": each.paused,
    }  # fmt: skip


def _or(given: Any, before: Any, default: Any) -> Any:
    return before if given is UNSET else default if given is None else given
