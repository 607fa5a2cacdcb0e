"""Silences, and their spans of the weeks to come, so that it takes one query to tell what a resource is silenced by.

The rule is the truth, and its spans are written down from now to `HORIZON` from now: when the silence is created or
changed, and by `extend` as time goes on. Of what is further away, `computed_spans` asks the rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import UUID

from tocsin.domain import ids, silences
from tocsin.domain.silences import Recurring, Rule, ScopedSpan, Span, State
from tocsin.storage.delivery import queue
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

HORIZON = timedelta(days=30)
EXTENDED_WITHIN = timedelta(days=15)
"""How long before the last span that is written down more are added."""
KEPT_DAYS, KEPT_PUBLIC_DAYS = 7, 100
"""For how long spans that are over are kept; status pages show those of public silences."""
FORGOTTEN_AFTER_DAYS = 400
"""For how long silences that are over are kept."""
MOST = 500
"""Spans that one question is answered with: those that end last."""
MOST_COMPUTED = 1_000
"""Silences with a recurrence that are asked for times beyond what is written down, newest first."""

Item = TypeVar("Item")
Owner = Literal["resources", "integrations"]


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence as it is asked for. None in a list or in `severity`: not limited; an empty list: nothing is left.

    `severity` is the worst that it silences.
    """

    name: str
    rule: Rule
    resources: tuple[UUID, ...] | None = None
    integrations: tuple[UUID, ...] | None = None
    incident_types: tuple[str, ...] | None = None
    severity: str | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """One silence as it is stored, and its state at the time of the query."""

    id: UUID
    silence: Silence
    state: State
    created_at: datetime
    updated_at: datetime


WANTED = """name, starts_at, ends_at, rrule, duration, timezone, resources, integrations, incident_types, severity,
    public"""

STATE = """CASE WHEN s.over_at <= now() THEN 'ended'
         WHEN EXISTS (SELECT FROM silence_spans p WHERE p.silence_id = s.id AND p.span @> now()) THEN 'active'
         ELSE 'planned' END"""

COLUMNS = f"s.id, {WANTED}, s.created_at, s.updated_at, {STATE} AS state"

ONE = f"SELECT {COLUMNS} FROM silences s WHERE s.project_id = $1 AND s.id = $2"
CHANGING = f"{ONE} FOR UPDATE"
COUNT = f"SELECT count(*) FROM silences s WHERE s.project_id = $1 AND ($2::text IS NULL OR {STATE} = $2)"
LIST = f"""
SELECT {COLUMNS} FROM silences s WHERE s.project_id = $1 AND ($2::text IS NULL OR {STATE} = $2)
ORDER BY s.id DESC LIMIT $3 OFFSET $4
"""
NAMES = "SELECT id, name FROM silences WHERE project_id = $1 AND id = ANY($2::uuid[])"

# Two creations of one project wait for each other, so that they cannot exceed its limit together.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('silences ' || $1::uuid, 0))"

INSERT = f"""
INSERT INTO silences (id, project_id, {WANTED}, expanded_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now())
"""
UPDATE = """
UPDATE silences
SET name = $3, starts_at = $4, ends_at = $5, rrule = $6, duration = $7, timezone = $8, resources = $9,
    integrations = $10, incident_types = $11, severity = $12, public = $13, updated_at = now()
WHERE project_id = $1 AND id = $2
"""
DELETE = "DELETE FROM silences WHERE project_id = $1 AND id = $2 RETURNING id"
END = "UPDATE silences SET ends_at = now(), updated_at = now() WHERE project_id = $1 AND id = $2"

FORGET_SPANS = "DELETE FROM silence_spans WHERE silence_id = $1 AND upper(span) > now() RETURNING lower(span) AS begun"
INSERT_SPANS = """
INSERT INTO silence_spans (silence_id, project_id, span, everything)
SELECT s.id, s.project_id, tstzrange(g.starts_at, g.ends_at), s.resources IS NULL
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS g(id, starts_at, ends_at)
CROSS JOIN LATERAL (SELECT * FROM silences WHERE id = g.id LIMIT 1) s
"""
EXPANDED = "UPDATE silences SET expanded_until = $2, over_at = $3 WHERE id = $1"

DUE = f"""
SELECT s.id, {WANTED}, s.expanded_until FROM silences s WHERE s.over_at IS NULL AND s.expanded_until < now() + $2
ORDER BY s.expanded_until LIMIT $1 FOR UPDATE SKIP LOCKED
"""
LAST_SPAN = "SELECT max(upper(span)) FROM silence_spans WHERE silence_id = $1"
DROP_SPANS = f"""
DELETE FROM silence_spans p USING silences s
WHERE upper(p.span) < now() - interval '{KEPT_DAYS} days' AND s.id = p.silence_id
  AND (NOT s.public OR upper(p.span) < now() - interval '{KEPT_PUBLIC_DAYS} days')
"""
DROP_OLD = f"DELETE FROM silences WHERE over_at < now() - interval '{FORGOTTEN_AFTER_DAYS} days'"


SCOPE = "s.id, s.name, s.integrations, s.incident_types, s.severity, coalesce(s.timezone, 'UTC') AS timezone"

# The range of its project's hash makes project and time one index (migration 0017).
OVER = f"""
SELECT {SCOPE}, lower(f.span) AS starts_at, upper(f.span) AS ends_at
FROM (
    SELECT * FROM (
        SELECT p.silence_id, p.span FROM silence_spans p
        WHERE p.everything AND p.project_id = $1 AND p.span && tstzrange($3, $4)
          AND int8range(uuid_hash(p.project_id), uuid_hash(p.project_id), '[]')
              && int8range(uuid_hash($1::uuid), uuid_hash($1::uuid), '[]')
        UNION ALL
        SELECT p.silence_id, p.span
        FROM silences n CROSS JOIN LATERAL (
            SELECT * FROM silence_spans WHERE silence_id = n.id AND span && tstzrange($3, $4) OFFSET 0
        ) p
        WHERE n.resources @> ARRAY[$2::uuid] AND p.project_id = $1
    ) found
) f
CROSS JOIN LATERAL (SELECT * FROM silences WHERE id = f.silence_id LIMIT 1) s
WHERE $5::uuid[] IS NULL OR s.integrations IS NULL OR s.integrations && $5
ORDER BY upper(f.span) DESC LIMIT {MOST}
"""

RULES = f"""
SELECT s.id, {WANTED} FROM silences s
WHERE s.project_id = $1 AND (s.resources IS NULL OR s.resources @> ARRAY[$2::uuid])
  AND s.starts_at < $4 AND (s.ends_at IS NULL OR s.ends_at > $3) AND (s.over_at IS NULL OR s.over_at > $3)
  AND ($5::uuid[] IS NULL OR s.integrations IS NULL OR s.integrations && $5)
ORDER BY s.id DESC LIMIT {MOST_COMPUTED}
"""

OF_PROJECT = f"""
SELECT {SCOPE}, lower(p.span) AS starts_at, upper(p.span) AS ends_at
FROM silences s CROSS JOIN LATERAL (
    SELECT * FROM silence_spans WHERE silence_id = s.id AND span && tstzrange($2, $3) OFFSET 0
) p
WHERE s.project_id = $1 AND (s.over_at IS NULL OR s.over_at > $2)
ORDER BY lower(p.span), s.id LIMIT {MOST}
"""


def _without(owner: Owner) -> str:
    return f"""
UPDATE silences SET {owner} = array_remove({owner}, $2), updated_at = now()
WHERE {owner} @> ARRAY[$2::uuid] AND project_id = $1
RETURNING id, cardinality({owner}) = 0 AS empty, over_at IS NULL OR over_at > now() AS goes_on
"""


NAMING: dict[Owner, str] = {
    owner: f"SELECT id FROM silences WHERE {owner} @> ARRAY[$2::uuid] AND project_id = $1 ORDER BY id FOR UPDATE"
    for owner in ("resources", "integrations")
}
WITHOUT: dict[Owner, str] = {"resources": _without("resources"), "integrations": _without("integrations")}


async def list_(
    tx: Tx, project_id: UUID, *, state: State | None, limit: int, offset: int
) -> tuple[list[Stored], int]:
    """A page of the project's silences in that state (None: any), newest first, and how many there are in all."""
    total = await tx.fetchval(COUNT, project_id, state)
    rows = await tx.fetch(LIST, project_id, state, limit, offset) if offset < total else []
    return [_stored(row) for row in rows], total


async def one(tx: Tx, project_id: UUID, silence_id: UUID) -> Stored | None:
    """The project's silence with that key."""
    row = await tx.fetchrow(ONE, project_id, silence_id)
    return row and _stored(row)


async def names(tx: Tx, project_id: UUID, keys: Iterable[UUID]) -> dict[UUID, str]:
    """The names of those of the project's silences that exist."""
    return {key(row["id"]): row["name"] for row in await tx.fetch(NAMES, project_id, [*keys])}


async def changing(tx: Tx, project_id: UUID, silence_id: UUID) -> Stored | None:
    """The project's silence with that key, locked until the transaction ends."""
    row = await tx.fetchrow(CHANGING, project_id, silence_id)
    return row and _stored(row)


async def locked_count(tx: Tx, project_id: UUID) -> int:
    """How many silences the project has; none is created by others until the transaction ends."""
    await tx.execute(LOCK, project_id)
    return int(await tx.fetchval(COUNT, project_id, None))


async def create(tx: Tx, project_id: UUID, wanted: Silence) -> UUID:
    """Create a silence; what waits for its turn is decided anew. Returns its key."""
    new = ids.new()
    await tx.execute(INSERT, new, project_id, *_columns(wanted))
    await _rewrite(tx, project_id, new, wanted.rule)
    return new


async def change(tx: Tx, project_id: UUID, silence_id: UUID, wanted: Silence) -> None:
    """Change a silence that `changing` has locked; what waits for its turn is decided anew."""
    await tx.execute(UPDATE, project_id, silence_id, *_columns(wanted))
    await _rewrite(tx, project_id, silence_id, wanted.rule)


async def end_now(tx: Tx, project_id: UUID, silence_id: UUID) -> None:
    """End a silence now; what waits for its turn is decided anew."""
    await tx.execute(END, project_id, silence_id)
    found = await one(tx, project_id, silence_id)
    assert found is not None
    await _rewrite(tx, project_id, silence_id, found.silence.rule)


async def delete(tx: Tx, project_id: UUID, silence_id: UUID) -> bool:
    """Delete a silence; what waits for its turn is decided anew. Returns whether it existed."""
    if await tx.fetchval(DELETE, project_id, silence_id) is None:
        return False
    await queue.reconsider(tx, project_id)
    return True


async def hold_naming(tx: Tx, owner: Owner, project_id: UUID, one_key: UUID) -> None:
    """Before what silences name is deleted, and before any delivery is locked: lock them."""
    await tx.execute(NAMING[owner], project_id, one_key)


async def forget_resource(tx: Tx, project_id: UUID, resource_id: UUID) -> None:
    """Take a resource that is deleted out of all silences. One that was for nothing else ends."""
    await _forget(tx, "resources", project_id, resource_id)


async def forget_integration(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """Take an integration that is deleted out of all silences. One that was for nothing else ends."""
    await _forget(tx, "integrations", project_id, integration_id)


async def _forget(tx: Tx, owner: Owner, project_id: UUID, one_key: UUID) -> None:
    for row in await tx.fetch(WITHOUT[owner], project_id, one_key):
        if row["empty"] and row["goes_on"]:
            await end_now(tx, project_id, key(row["id"]))


async def spans_over(
    tx: Tx, project_id: UUID, resource_id: UUID, start: datetime, end: datetime,
    integrations: Sequence[UUID] | None = None,
) -> list[ScopedSpan]:  # fmt: skip
    """The spans that overlap [start, end) of silences that include that resource, newest-ending first.

    With `integrations`, without silences that are limited to others. As far as spans are written down: `HORIZON` from
    now. Of more than `MOST`, those that end last.
    """
    rows = await tx.fetch(OVER, project_id, resource_id, start, end, integrations)
    return [_span(row) for row in rows]


async def computed_spans(
    tx: Tx, project_id: UUID, resource_id: UUID, start: datetime, end: datetime,
    integrations: Sequence[UUID] | None = None,
) -> list[ScopedSpan]:  # fmt: skip
    """As `spans_over`, at any time, from the rules."""
    found: list[ScopedSpan] = []
    for row in await tx.fetch(RULES, project_id, resource_id, start, end, integrations):
        await asyncio.sleep(0)  # a rule can take some milliseconds
        each = _silence(row)
        found += [
            ScopedSpan(
                key(row["id"]), each.name, span.starts_at, span.ends_at, _set(each.integrations),
                _set(each.incident_types), each.severity,
                each.rule.recurrence.timezone if each.rule.recurrence else "UTC",
            )
            for span in silences.spans(each.rule, start, end)
        ]  # fmt: skip
    return sorted(found, key=lambda span: span.ends_at, reverse=True)[:MOST]


async def spans_of_project(tx: Tx, project_id: UUID, start: datetime, end: datetime) -> list[ScopedSpan]:
    """The spans that overlap [start, end) of all silences of the project, in their order; the first `MOST` of them."""
    return [_span(row) for row in await tx.fetch(OF_PROJECT, project_id, start, end)]


async def extend(tx: Tx, limit: int) -> int:
    """Write down the spans to come of up to `limit` silences that will need them first, and drop what is long over.

    Returns how many silences that were.
    """
    await tx.execute(DROP_SPANS)
    await tx.execute(DROP_OLD)
    rows = await tx.fetch(DUE, limit, EXTENDED_WITHIN)
    for row in rows:
        rule, begin = _silence(row).rule, row["expanded_until"]
        horizon = await tx.fetchval("SELECT now() + $1::interval", HORIZON)
        found = [each for each in silences.spans(rule, begin, horizon) if each.starts_at >= begin]
        await _write(tx, key(row["id"]), rule, found, horizon)
    return len(rows)


async def _rewrite(tx: Tx, project_id: UUID, silence_id: UUID, rule: Rule) -> None:
    """Replace its spans that are not over. Of one that lasted and is no more, what has been stays on record."""
    now = await tx.fetchval("SELECT now()")
    begun = [row["begun"] for row in await tx.fetch(FORGET_SPANS, silence_id)]
    found = silences.spans(rule, now, now + HORIZON)
    been = [Span(at, now) for at in begun if at < now and not any(each.starts_at <= at for each in found)]
    await _write(tx, silence_id, rule, [*been, *found], now + HORIZON)
    await queue.reconsider(tx, project_id)


async def _write(tx: Tx, silence_id: UUID, rule: Rule, found: Sequence[Span], horizon: datetime) -> None:
    starts, ends = [each.starts_at for each in found], [each.ends_at for each in found]
    await tx.execute(INSERT_SPANS, [silence_id] * len(found), starts, ends)
    over = None
    if not any(each.starts_at >= horizon for each in silences.next_spans(rule, horizon, 2)):
        over = await tx.fetchval(LAST_SPAN, silence_id) or await tx.fetchval("SELECT now()")
    await tx.execute(EXPANDED, silence_id, horizon, over)


def _columns(wanted: Silence) -> tuple[object, ...]:
    """In the order of `WANTED`."""
    rule, recurring = wanted.rule, wanted.rule.recurrence
    rrule, duration, timezone = (recurring.rrule, recurring.duration, recurring.timezone) if recurring else (None,) * 3
    return (
        wanted.name, rule.starts_at, rule.ends_at, rrule, duration, timezone, wanted.resources, wanted.integrations,
        wanted.incident_types, wanted.severity, wanted.public,
    )  # fmt: skip


def _silence(row: Record) -> Silence:
    """From the columns of `WANTED`."""
    recurring = row["rrule"] and Recurring(row["rrule"], row["duration"], row["timezone"])
    return Silence(
        row["name"], Rule(row["starts_at"], row["ends_at"], recurring), _keys(row["resources"]),
        _keys(row["integrations"]), None if row["incident_types"] is None else tuple(row["incident_types"]),
        row["severity"], row["public"],
    )  # fmt: skip


def _keys(found: Sequence[UUID] | None) -> tuple[UUID, ...] | None:
    return None if found is None else tuple(map(key, found))


def _set(found: Sequence[Item] | None) -> frozenset[Item] | None:
    return None if found is None else frozenset(found)


def _span(row: Record) -> ScopedSpan:
    integrations = row["integrations"]
    return ScopedSpan(
        key(row["id"]), row["name"], row["starts_at"], row["ends_at"],
        None if integrations is None else frozenset(map(key, integrations)), _set(row["incident_types"]),
        row["severity"], row["timezone"],
    )  # fmt: skip


def _stored(row: Record) -> Stored:
    return Stored(key(row["id"]), _silence(row), row["state"], row["created_at"], row["updated_at"])
