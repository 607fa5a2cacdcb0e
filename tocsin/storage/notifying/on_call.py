"""On-call schedules as they are decided by: the settings of on-call integrations, with their overrides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from tocsin.domain import ids, on_call
from tocsin.domain.on_call import TYPE, Override, Schedule
from tocsin.storage.delivery import queue
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

KEPT = "92 days"
"""How long overrides that have ended are kept."""

# Overrides in the order in which they were made: of those at the same time, the last one counts.
SCHEDULE = """
SELECT i.id, i.settings, coalesce(s.anchor, i.created_at) AS anchor, coalesce(s.feed, 0) AS feed,
       o.integrations, o.starts, o.ends
FROM integrations i
LEFT JOIN on_call_schedules s ON s.on_call_id = i.id
CROSS JOIN LATERAL (
    SELECT array_agg(integration_id ORDER BY id) AS integrations, array_agg(starts_at ORDER BY id) AS starts,
           array_agg(ends_at ORDER BY id) AS ends
    FROM on_call_overrides WHERE on_call_id = i.id AND ends_at > {since}
) o
"""
PRESENT, WITH_PAST = SCHEDULE.format(since="now()"), SCHEDULE.format(since=f"now() - interval '{KEPT}'")
OF_PROJECT = f"{{}} WHERE i.project_id = $1 AND i.type = '{TYPE}' ORDER BY i.id"
THESE = f"{{}} WHERE i.id = ANY ($1::uuid[]) AND i.type = '{TYPE}'"
SCHEDULES, SCHEDULES_WITH_PAST = OF_PROJECT.format(PRESENT), OF_PROJECT.format(WITH_PAST)
ANY_SCHEDULE, ANY_WITH_PAST = THESE.format(PRESENT), THESE.format(WITH_PAST)

ANCHOR = """
INSERT INTO on_call_schedules (on_call_id, project_id, anchor) VALUES ($1, $2, $3)
ON CONFLICT (on_call_id) DO UPDATE SET anchor = excluded.anchor
"""

# Locked so that none of them is deleted before it is named; whoever deletes one takes it out of all lists.
MEMBERS = "SELECT id, type, repeatable FROM integrations WHERE project_id = $1 AND id = ANY ($2::uuid[]) FOR KEY SHARE"

NAMING = f"""
SELECT id, settings FROM integrations
WHERE project_id = $1 AND type = '{TYPE}' AND settings->'integrations' ? $2
ORDER BY id FOR UPDATE
"""
# In the order of keys, as in every other transaction that locks several.
LOCK_WITH_NAMING = f"""
SELECT id FROM integrations
WHERE project_id = $1 AND (id = $2 OR type = '{TYPE}' AND settings->'integrations' ? $3)
ORDER BY id FOR UPDATE
"""
# Whoever names members, and whoever deletes one, waits for the other before any of them is locked.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('on-call ' || $1::uuid, 0))"
RENAME = "UPDATE integrations SET settings = $2, version = version + 1, updated_at = now() WHERE id = $1"

NAME = r"""coalesce(i.name, i.settings->>'email', i.settings->>'phone_number', regexp_replace(
         regexp_replace(i.type, '^Integrations::|Integration$', '', 'g'), '([a-z])([A-Z])', '\1 \2', 'g'))"""
"""Of an integration `i`, for texts and lists; without what is sealed."""

NAMES = f"SELECT i.id, {NAME} AS name FROM integrations i WHERE i.project_id = $1 AND i.id = ANY ($2::uuid[])"

OVERRIDE = "id, integration_id, starts_at, ends_at"
OVERRIDES = f"SELECT {OVERRIDE} FROM on_call_overrides WHERE project_id = $1 AND on_call_id = $2 ORDER BY starts_at, id"
COUNT = "SELECT count(*) FROM on_call_overrides WHERE on_call_id = $1"
FORGET_OLD = f"DELETE FROM on_call_overrides WHERE on_call_id = $1 AND ends_at < now() - interval '{KEPT}'"
ADD = f"""
INSERT INTO on_call_overrides (id, project_id, on_call_id, integration_id, starts_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING {OVERRIDE}
"""
REMOVE = f"DELETE FROM on_call_overrides WHERE project_id = $1 AND on_call_id = $2 AND id = $3 RETURNING {OVERRIDE}"

ROTATE_FEED = """
INSERT INTO on_call_schedules AS s (on_call_id, project_id, feed) VALUES ($1, $2, 1)
ON CONFLICT (on_call_id) DO UPDATE SET feed = s.feed + 1
RETURNING feed
"""
ON_BEHALF = "UPDATE outstanding SET on_behalf_of = $2 WHERE id = $1"

FEED = f"""
SELECT i.project_id, {NAME} AS name, coalesce(s.feed, 0) AS feed
FROM integrations i LEFT JOIN on_call_schedules s ON s.on_call_id = i.id
WHERE i.id = $1 AND i.type = '{TYPE}'
"""


@dataclass(frozen=True, slots=True)
class StoredOverride:
    id: UUID
    integration_id: UUID
    starts_at: datetime
    ends_at: datetime


class Member(NamedTuple):
    """What decides whether an integration can be on duty."""

    type: str
    repeatable: bool


class Feed(NamedTuple):
    """What the address of a schedule's calendar depends on. `number` is how often it was changed."""

    project_id: UUID
    name: str
    number: int


class Duty(NamedTuple):
    """A line of a calendar: who is on duty where."""

    title: str
    starts_at: datetime
    ends_at: datetime
    href: str


async def schedules(tx: Tx, project_id: UUID) -> dict[UUID, Schedule]:
    """The schedules of the project's on-call integrations, with the overrides that have not ended."""
    return {key(row["id"]): _schedule(row) for row in await tx.fetch(SCHEDULES, project_id)}


async def schedule(tx: Tx, on_call_ids: Collection[UUID]) -> dict[UUID, Schedule]:
    """The schedules of those of these that are on-call integrations, with the overrides that have not ended."""
    if not on_call_ids:
        return {}
    return {key(row["id"]): _schedule(row) for row in await tx.fetch(ANY_SCHEDULE, list(on_call_ids))}


async def schedule_with_past(tx: Tx, on_call_id: UUID) -> Schedule | None:
    """The schedule of one on-call integration, with overrides that have ended too, as long as they are kept."""
    row = await tx.fetchrow(ANY_WITH_PAST, [on_call_id])
    return row and _schedule(row)


async def duties(tx: Tx, project_id: UUID, start: datetime, end: datetime) -> list[Duty]:
    """Who is on duty in [start, end), for all schedules of the project, by their beginnings."""
    found = {key(row["id"]): _schedule(row) for row in await tx.fetch(SCHEDULES_WITH_PAST, project_id)}
    spans = [(id_, span) for id_, each in found.items() for span in on_call.spans(each, start, end)]
    names = await names_of(tx, project_id, {*found, *(span.integration for _, span in spans)})
    return sorted(
        (
            Duty(
                f"{names[id_]}: {names.get(span.integration, 'a deleted integration')}", span.starts_at, span.ends_at,
                f"/integrations/{ids.public(ids.INTEGRATION, id_)}",
            )
            for id_, span in spans
        ),
        key=lambda duty: (duty.starts_at, duty.title),
    )  # fmt: skip


async def names_of(tx: Tx, project_id: UUID, integrations: Collection[UUID]) -> dict[UUID, str]:
    """The names of those of these that are the project's."""
    return {key(row["id"]): row["name"] for row in await tx.fetch(NAMES, project_id, list(integrations))}


async def members(tx: Tx, project_id: UUID, integrations: Sequence[UUID]) -> dict[UUID, Member]:
    """Those of these that the project has. None of them can be deleted until the transaction ends."""
    rows = await tx.fetch(MEMBERS, project_id, list(integrations))
    return {key(row["id"]): Member(row["type"], row["repeatable"]) for row in rows}


async def keep_duty(tx: Tx, project_id: UUID, on_call_id: UUID, settings: Mapping[str, Any]) -> None:
    """Call this before a schedule gets other settings: whoever's turn it is stays on duty, if still in the list.

    Otherwise it is the next of the old list. What waits for its turn is decided anew.
    """
    now = await tx.fetchval("SELECT now()")
    old = (await schedule(tx, [on_call_id]))[on_call_id]
    new = of_settings(settings, now)
    staying = (each for each in on_call.order(replace(old, overrides=()), now) if each in new.integrations)
    await tx.execute(ANCHOR, on_call_id, project_id, on_call.anchored(new, next(staying, None), now))
    await queue.reconsider(tx, project_id)


async def lock(tx: Tx, project_id: UUID) -> None:
    """Call this before an integration is locked that is to be deleted, or to name others as its members."""
    await tx.execute(LOCK, project_id)


async def hold_with_naming(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """After `lock`: lock an integration that is to be deleted, and the schedules that name it."""
    await tx.execute(LOCK_WITH_NAMING, project_id, integration_id, ids.public(ids.INTEGRATION, integration_id))


async def forget_integration(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """Take an integration that is deleted out of all schedules; one that named nobody else has nobody on duty."""
    public = ids.public(ids.INTEGRATION, integration_id)
    for row in await tx.fetch(NAMING, project_id, public):
        settings = {**row["settings"], "integrations": [e for e in row["settings"]["integrations"] if e != public]}
        await keep_duty(tx, project_id, key(row["id"]), settings)
        await tx.execute(RENAME, row["id"], settings)


async def overrides(tx: Tx, project_id: UUID, on_call_id: UUID) -> list[StoredOverride]:
    """The overrides of a schedule of the project, by their beginnings; ended ones as long as they are kept."""
    return [_override(row) for row in await tx.fetch(OVERRIDES, project_id, on_call_id)]


async def count_overrides(tx: Tx, on_call_id: UUID) -> int:
    """How many there are, after the old ones are forgotten."""
    await tx.execute(FORGET_OLD, on_call_id)
    return int(await tx.fetchval(COUNT, on_call_id))


async def add_override(tx: Tx, project_id: UUID, on_call_id: UUID, wanted: Override) -> StoredOverride:
    """Somebody of the project takes over; both are known to be the project's."""
    row = await tx.fetchrow(ADD, ids.new(), project_id, on_call_id, *wanted)
    await queue.reconsider(tx, project_id)
    return _override(row)


async def remove_override(tx: Tx, project_id: UUID, on_call_id: UUID, override_id: UUID) -> StoredOverride | None:
    """Take an override back; None if the schedule has none with that key."""
    row = await tx.fetchrow(REMOVE, project_id, on_call_id, override_id)
    if row is None:
        return None
    await queue.reconsider(tx, project_id)
    return _override(row)


async def on_behalf(tx: Tx, delivery_id: UUID, on_call_id: UUID) -> None:
    """Record with a delivery that was just queued which schedule passed it on."""
    await tx.execute(ON_BEHALF, delivery_id, on_call_id)


async def feed(tx: Tx, on_call_id: UUID) -> Feed | None:
    """Of an on-call integration of any project: whoever calls this checks the address that was asked for."""
    row = await tx.fetchrow(FEED, on_call_id)
    return row and Feed(key(row["project_id"]), row["name"], row["feed"])


async def rotate_feed(tx: Tx, project_id: UUID, on_call_id: UUID) -> int:
    """Give its calendar another address; the old one stops working. Returns how often that was done."""
    return int(await tx.fetchval(ROTATE_FEED, on_call_id, project_id))


def of_settings(settings: Mapping[str, Any], anchor: datetime, overrides: Sequence[Override] = ()) -> Schedule:
    """The schedule that an on-call integration with these settings has."""
    parsed = (ids.parse(ids.INTEGRATION, each) for each in settings["integrations"])
    return Schedule(
        settings["timezone"], settings["rotation"], settings.get("handover"),
        tuple(each for each in parsed if each is not None), anchor, tuple(overrides),
    )  # fmt: skip


def _schedule(row: Record) -> Schedule:
    found = zip(row["integrations"] or (), row["starts"] or (), row["ends"] or (), strict=True)
    return of_settings(row["settings"], row["anchor"], [Override(key(id_), start, end) for id_, start, end in found])


def _override(row: Record) -> StoredOverride:
    return StoredOverride(key(row["id"]), key(row["integration_id"]), row["starts_at"], row["ends_at"])
