"""Incidents: resolving, snoozing and reading them. A resolve and its deliveries are one transaction.

Whoever was notified that an incident opened is notified that it is resolved; `ongoing.recipients` stores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from tocsin.domain import requests as origins
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.flapping import REASON, STEADY
from tocsin.domain.incidents import AT_ONCE, Incident, OpenRequest, ResolveRequest, Severity
from tocsin.storage.delivery import behind, flapping, outstanding, queue
from tocsin.storage.delivery.behind import Others
from tocsin.storage.delivery.queue import HeldEntry, QueueEntry, content
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record


FIELDS = Incident.__struct_fields__
KEYS = frozenset({"id", "project_id", "resource_id", "silenced_by"})
INCIDENT = ", ".join(f"i.{name}" for name in FIELDS)
NEXT_SUMMARY = "SELECT integration_id, ends_at FROM floods WHERE integration_id = ANY($1::uuid[]) AND ends_at > now()"
IN_NEXT_SUMMARY = "it waits for the next summary"
NO_OPEN_DELIVERY = outstanding.OpeningState(blocked_by=None, failed=False)

ONGOING = f"""
SELECT {INCIDENT}
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g(resource_id, type, dedup_key)
JOIN ongoing o ON o.resource_id = g.resource_id AND o.type = g.type AND o.dedup_key = g.dedup_key
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = o.incident_id LIMIT 1) i
"""

END = f"""
WITH ended AS (
    DELETE FROM ongoing o
    USING (
        SELECT l.resource_id, l.type, l.dedup_key, g.by, g.origin
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[],
                    string_to_array($7, E'\\n', ''))
            AS g(project_id, resource_id, type, dedup_key, incident_id, by, origin)
        JOIN ongoing l ON l.resource_id = g.resource_id AND l.type = g.type AND l.project_id = g.project_id
            AND l.dedup_key BETWEEN coalesce(g.dedup_key, '') AND coalesce(g.dedup_key, U&'\\+10FFFF')
            AND coalesce(g.incident_id, l.incident_id) = l.incident_id
        ORDER BY l.resource_id, l.type, l.dedup_key FOR UPDATE OF l
    ) locked
    WHERE o.resource_id = locked.resource_id AND o.type = locked.type AND o.dedup_key = locked.dedup_key
    RETURNING o.incident_id, o.recipients, o.summarised, locked.by, locked.origin
)
UPDATE incidents i SET closed_at = now(), updated_at = now(), resolved_by = ended.by, resolve_origin = ended.origin
FROM ended WHERE i.id = ended.incident_id
RETURNING {INCIDENT}, ended.recipients, ended.summarised, {flapping.ANNOUNCED_BY} AS flapping,
          EXISTS (SELECT FROM dependencies WHERE parent_id = i.resource_id) AS parent
"""

ONE = f"SELECT {INCIDENT} FROM incidents i WHERE id = $1 AND project_id = $2"
THESE = f"SELECT {INCIDENT} FROM incidents i WHERE id = ANY($1::uuid[]) AND project_id = $2"

# Two statements instead of a parameter: only then do ongoing ones use their own index.
NEWEST = """
SELECT {columns} FROM incidents i
WHERE project_id = $1 AND closed_at IS {which} ORDER BY id DESC LIMIT $2 OFFSET $3
"""
NEWEST_ONGOING = NEWEST.format(columns=INCIDENT, which="NULL")
NEWEST_ENDED = NEWEST.format(columns=INCIDENT, which="NOT NULL")
NEWEST_OF_SEVERITY = NEWEST_ONGOING.replace("ORDER BY", "AND severity = $4 ORDER BY")

COUNT_ONGOING = "SELECT count(*) FROM incidents WHERE project_id = $1 AND closed_at IS NULL"
COUNT_ENDED = "SELECT count(*) FROM incidents WHERE project_id = $1 AND closed_at IS NOT NULL"

SNOOZE = f"""
UPDATE incidents i SET snoozed_at = now(), snooze_until = $3, updated_at = now()
WHERE id = $1 AND project_id = $2 AND closed_at IS NULL
RETURNING {INCIDENT}
"""

# First of the two, as in a resolve: both lock the row in `ongoing` before the incident itself.
REMIND_AT = """
UPDATE ongoing o SET remind_at = $3
FROM (SELECT resource_id, type, dedup_key FROM incidents WHERE id = $1 AND project_id = $2 LIMIT 1) i
WHERE o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key AND o.incident_id = $1
"""

SNOOZED_OUT = """
UPDATE ongoing SET remind_at = NULL
WHERE (resource_id, type, dedup_key) IN (SELECT resource_id, type, dedup_key FROM ongoing WHERE remind_at <= now()
                                         ORDER BY remind_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING incident_id, recipients || summarised AS told
"""

ONGOING_TYPES = "SELECT resource_id, type, severity FROM ongoing WHERE resource_id = ANY($1)"
ONGOING_KEYS = "SELECT resource_id, type, dedup_key, severity FROM ongoing WHERE resource_id = ANY($1)"


class IncidentKey(NamedTuple):
    """The unique key of an ongoing incident."""

    resource_id: UUID
    type: str
    dedup_key: str = ""


def key_of(each: OpenRequest | Incident) -> IncidentKey:
    """The key that it has while it lasts."""
    return IncidentKey(each.resource_id, each.type, each.dedup_key)


async def ongoing(tx: Tx, keys: Iterable[IncidentKey]) -> dict[IncidentKey, Incident]:
    """Those incidents that are ongoing."""
    found = map(of_row, await tx.fetch(ONGOING, *map(list, zip(*keys, strict=True))))
    return {key_of(incident): incident for incident in found}


def of_row(row: Record) -> Incident:
    """The incident in a row of `INCIDENT`."""
    values: dict[str, Any] = {name: key(row[name]) if row[name] and name in KEYS else row[name] for name in FIELDS}
    return Incident(**values)


async def resolve(tx: Tx, closings: Sequence[ResolveRequest], others: Others | None = None) -> list[list[Incident]]:
    """Resolve what is ongoing, and queue notifications to all who were notified of its opening.

    One list for each request, empty where nothing was ongoing. An opening that has not been delivered yet goes out
    first (to machines), or is suppressed in favour of a resolve that covers both (to people): see
    `outstanding.settle_undelivered_openings`. What is told of `others` is decided
    anew in the same go; unless they are given, those are all behind what is well again.
    """
    whole = await _ongoing_keys(tx, {each.resource_id for each in closings if each.type is None})
    by: dict[tuple[UUID, str, str | None], ResolveRequest] = {}
    for each in closings:
        if each.type is None:
            by |= {wanted: each for wanted in whole if wanted.resource_id == each.resource_id and wanted not in by}
        else:
            by.setdefault((each.resource_id, each.type, each.dedup_key), each)
    ordered = sorted(by.items(), key=lambda item: (*item[0][:2], item[0][2] or ""))
    if len(ordered) > AT_ONCE:
        resources = {resource for resource, *_ in by}
        lasting = await behind.hold(tx, resources)
        await behind.lock_deliveries(tx, lasting.incidents, Others(behind=frozenset(resources)))
    found: dict[tuple[UUID, str, str], Incident] = {}
    of_type: dict[tuple[UUID, str | None], list[Incident]] = {}
    for start in range(0, len(ordered), AT_ONCE):
        for incident in await _end(tx, ordered[start : start + AT_ONCE], others):
            found[key_of(incident)] = incident
            of_type.setdefault((incident.resource_id, incident.type), []).append(incident)
            of_type.setdefault((incident.resource_id, None), []).append(incident)
    return [_answer(closing, found, of_type) for closing in closings]


def _answer(
    closing: ResolveRequest, found: Mapping[tuple[UUID, str, str], Incident],
    of_type: Mapping[tuple[UUID, str | None], list[Incident]],
) -> list[Incident]:  # fmt: skip
    """Of what was resolved, that which a request meant."""
    if closing.type is None or closing.dedup_key is None:
        return of_type.get((closing.resource_id, closing.type), [])
    one = found.get((closing.resource_id, closing.type, closing.dedup_key))
    return [one] if one else []


async def _end(
    tx: Tx, requests: Sequence[tuple[tuple[UUID, str, str | None], ResolveRequest]], others: Others | None
) -> list[Incident]:
    """Resolve these. Returns those that were ongoing."""
    keys, by = zip(*requests, strict=True)
    ended = await tx.fetch(
        END, [each.project_id for each in by], *map(list, zip(*keys, strict=True)),
        [each.only for each in by], [each.by for each in by], origins.written([each.origin for each in by]),
    )  # fmt: skip
    if not ended:
        return []
    well_again = frozenset(key(row["resource_id"]) for row in ended if row["parent"] and row["type"] in REACHABILITY)
    others = Others(behind=well_again) if others is None else others
    closed = [of_row(row) for row in ended]
    recipients = {key(row["id"]): [key(to) for to in row["recipients"]] for row in ended}
    unsteady = {key(row["id"]) for row in ended if row["flapping"]}
    known = await queue.recipients(tx, {to for everyone in recipients.values() for to in everyone})
    waiting = await outstanding.settle_undelivered_openings(
        tx, recipients, [to.id for to in known.values() if to.for_people], others, told_anyway=unsteady
    )
    await behind.well_since_now(tx, well_again)
    entries = []
    await _hold_until_steady(tx, [each for each in closed if each.id in unsteady], recipients)
    for incident in closed:
        for to in recipients[incident.id]:
            if to in known and incident.id not in unsteady:
                first = waiting.get((incident.id, to), NO_OPEN_DELIVERY)
                entries.append(QueueEntry(known[to], "resolved", content(incident), first.blocked_by, first.failed))
    await queue.put(tx, entries)
    await _hold_for_summary(tx, [(key(to), key(row["id"])) for row in ended for to in row["summarised"]])
    return closed


async def _hold_until_steady(tx: Tx, closed: Sequence[Incident], recipients: Mapping[UUID, Sequence[UUID]]) -> None:
    """The end of what said that its resource is flapping is told when that has been steady."""
    held = [
        HeldEntry(to, each.id, "resolved", REASON, each.closed_at and each.closed_at + STEADY)
        for each in closed
        for to in recipients[each.id]
    ]
    await queue.hold(tx, held)


async def _hold_for_summary(tx: Tx, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """The ends of what was told in summaries are told in the next ones."""
    if pairs:
        spans = await tx.fetch(NEXT_SUMMARY, [integration for integration, _ in pairs])
        due = {key(row["integration_id"]): row["ends_at"] for row in spans}
        await queue.hold(
            tx,
            [
                HeldEntry(integration, incident, "resolved", IN_NEXT_SUMMARY, due.get(integration), summary=True)
                for integration, incident in pairs
            ],
        )


async def forget_resource(tx: Tx, project_id: UUID, resource_id: UUID) -> None:
    """Before a server or monitor is deleted: resolve its incidents, suppress their deliveries, detach it."""
    reason = "its resource was deleted"
    ended = await resolve(tx, [ResolveRequest(project_id, resource_id, None, reason)])
    await outstanding.suppress_incidents(tx, [incident.id for incident in ended[0]], reason)
    await tx.execute("DELETE FROM attachments WHERE resource_id = $1", resource_id)


async def one(tx: Tx, project_id: UUID, incident_id: UUID) -> Incident | None:
    """The project's incident with that key."""
    row = await tx.fetchrow(ONE, incident_id, project_id)
    return row and of_row(row)


async def these(tx: Tx, project_id: UUID, keys: Iterable[UUID]) -> dict[UUID, Incident]:
    """Those of the project's incidents that are on record, by key."""
    return {incident.id: incident for incident in map(of_row, await tx.fetch(THESE, list(keys), project_id))}


async def list_(
    tx: Tx, project_id: UUID, *, ongoing: bool | None, limit: int, offset: int
) -> tuple[list[Incident], int]:
    """A page of incidents, ongoing first, then newest, and how many there are in all."""
    first = 0 if ongoing is False else await tx.fetchval(COUNT_ONGOING, project_id)
    rest = 0 if ongoing is True else await tx.fetchval(COUNT_ENDED, project_id)
    return await _newest(tx, project_id, first, rest > 0, limit, offset), first + rest


async def latest(tx: Tx, project_id: UUID, *, limit: int, offset: int) -> list[Incident]:
    """As `list_` of all, without counting what may be a million."""
    return await _newest(tx, project_id, await tx.fetchval(COUNT_ONGOING, project_id), True, limit, offset)


async def ongoing_of_severity(
    tx: Tx, project_id: UUID, severity: Severity, *, limit: int, offset: int = 0
) -> list[Incident]:
    """A page of those of that severity that are ongoing, newest first."""
    return [of_row(row) for row in await tx.fetch(NEWEST_OF_SEVERITY, project_id, limit, offset, severity)]


async def _newest(tx: Tx, project_id: UUID, first: int, rest: bool, limit: int, offset: int) -> list[Incident]:
    """`first` are ongoing and come before the `rest`."""
    rows = await tx.fetch(NEWEST_ONGOING, project_id, limit, offset) if offset < first else []
    if rest and len(rows) < limit:
        rows += await tx.fetch(NEWEST_ENDED, project_id, limit - len(rows), max(0, offset - first))
    return [of_row(row) for row in rows]


async def snooze(tx: Tx, project_id: UUID, incident_id: UUID, until: datetime) -> Incident | None:
    """Snooze an ongoing incident until then; None where it is not ongoing.

    Pending notifications are postponed until then. If it is still ongoing then, `remind` sends a reminder.
    """
    await tx.execute(REMIND_AT, incident_id, project_id, until)
    row = await tx.fetchrow(SNOOZE, incident_id, project_id, until)
    if row is None:
        return None
    await outstanding.postpone(tx, incident_id, until)
    return of_row(row)


async def remind(tx: Tx, limit: int) -> int:
    """Send reminders of incidents whose snooze is over, unless they are still to be told. Returns how many."""
    rows = await tx.fetch(SNOOZED_OUT, limit)
    pairs = [(key(row["incident_id"]), key(to)) for row in rows for to in row["told"]]
    await outstanding.remind(tx, pairs, {})
    return len(rows)


async def ongoing_types(tx: Tx, resources: Iterable[UUID]) -> dict[UUID, dict[str, Severity]]:
    """The types and severities of what is ongoing for each of these resources; all of them are in the result."""
    types: dict[UUID, dict[str, Severity]] = {resource: {} for resource in resources}
    for row in await tx.fetch(ONGOING_TYPES, list(types)) if types else ():
        types[key(row["resource_id"])][row["type"]] = row["severity"]
    return types


async def ongoing_keys(tx: Tx, resources: Iterable[UUID]) -> dict[UUID, dict[tuple[str, str], Severity]]:
    """As `ongoing_types`, by type and key."""
    keys: dict[UUID, dict[tuple[str, str], Severity]] = {resource: {} for resource in resources}
    for row in await tx.fetch(ONGOING_KEYS, list(keys)) if keys else ():
        keys[key(row["resource_id"])][row["type"], row["dedup_key"]] = row["severity"]
    return keys


async def _ongoing_keys(tx: Tx, resources: Iterable[UUID]) -> list[IncidentKey]:
    """What is ongoing for any of these resources."""
    wanted = list(resources)
    rows = await tx.fetch(ONGOING_KEYS, wanted) if wanted else []
    return [IncidentKey(key(row["resource_id"]), row["type"], row["dedup_key"]) for row in rows]
