"""Incidents: opening and resolving them, each in one transaction with the deliveries that tell of it.

Whoever was told that an incident began is told that it ended; `ongoing.told` remembers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.incidents import NETWORK_MONITOR, SERVER, Closing, Evidence, Incident, Missing, Opened, Opening
from tocsin.storage import deliveries, queue
from tocsin.storage.database import Tx, key
from tocsin.storage.queue import Entry, Recipient, content

if TYPE_CHECKING:
    from asyncpg import Record


FIELDS = tuple(Incident.__dataclass_fields__)
KEYS = frozenset({"id", "project_id", "resource_id"})
INCIDENT = ", ".join(f"i.{name}" for name in FIELDS)
NO_EVIDENCE = Evidence()
ON_TIME = deliveries.Overtaken(behind=None, failed=False)

RESOURCES = f"""
SELECT g.project_id AS owner_id, g.resource_id, r.type AS resource_type, r.name, r.url, {queue.RECIPIENT}
FROM unnest($1::uuid[], $2::uuid[]) AS g(project_id, resource_id)
CROSS JOIN LATERAL (
    SELECT '{SERVER}' AS type, coalesce(nullif(s.hostname, ''), s.motherboard_id) AS name, NULL AS url
    FROM servers s WHERE s.id = g.resource_id AND s.project_id = g.project_id
    UNION ALL
    SELECT '{NETWORK_MONITOR}', m.name, m.url
    FROM network_monitors m WHERE m.id = g.resource_id AND m.project_id = g.project_id
    LIMIT 1
) r
LEFT JOIN attachments a ON a.resource_id = g.resource_id
LEFT JOIN LATERAL (SELECT * FROM integrations WHERE id = a.integration_id LIMIT 1) i ON true
"""

BEGIN = """
INSERT INTO ongoing (resource_id, type, incident_id, project_id, told)
SELECT resource_id, type, incident_id, project_id, string_to_array(told, ',')::uuid[]
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[])
    AS g(resource_id, type, incident_id, project_id, told)
ON CONFLICT (resource_id, type) DO NOTHING
RETURNING incident_id, now()
"""

STORE = """
INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, message,
                       request, request_headers, response, response_headers, created_at, updated_at)
SELECT *, now(), now()
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::jsonb[], $11::text[], $12::jsonb[])
"""

ONGOING = f"""
SELECT {INCIDENT}
FROM unnest($1::uuid[], $2::text[]) AS g(resource_id, type)
JOIN ongoing o ON o.resource_id = g.resource_id AND o.type = g.type
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = o.incident_id LIMIT 1) i
"""

END = """
DELETE FROM ongoing o
USING unnest($1::uuid[], $2::uuid[], $3::text[]) AS g(project_id, resource_id, type)
WHERE o.resource_id = g.resource_id AND o.type = g.type AND o.project_id = g.project_id
RETURNING o.resource_id, o.type, o.incident_id, o.told
"""

CLOSE = f"""
UPDATE incidents i SET closed_at = now(), updated_at = now(), resolved_by = g.by
FROM unnest($1::uuid[], $2::text[]) AS g(incident_id, by)
WHERE i.id = g.incident_id AND i.id = ANY($1)
RETURNING {INCIDENT}
"""

ONE = f"SELECT {INCIDENT} FROM incidents i WHERE id = $1 AND project_id = $2"

NEWEST = f"""
SELECT {INCIDENT} FROM incidents i
WHERE project_id = $1 AND (closed_at IS NULL) = $2 ORDER BY id DESC LIMIT $3 OFFSET $4
"""

COUNT = "SELECT count(*) FROM incidents WHERE project_id = $1 AND (closed_at IS NULL) = $2"

SNOOZE = f"""
UPDATE incidents i SET snoozed_at = now(), snooze_until = $3, updated_at = now()
WHERE id = $1 AND project_id = $2 AND closed_at IS NULL
RETURNING {INCIDENT}
"""

# First of the two, as in a resolve: both lock what lasts before the incident itself.
REMIND_AT = """
UPDATE ongoing o SET remind_at = $3
FROM (SELECT resource_id, type FROM incidents WHERE id = $1 AND project_id = $2 LIMIT 1) i
WHERE o.resource_id = i.resource_id AND o.type = i.type AND o.incident_id = $1
"""

SNOOZED_OUT = f"""
WITH over AS (
    UPDATE ongoing SET remind_at = NULL
    WHERE (resource_id, type) IN (SELECT resource_id, type FROM ongoing WHERE remind_at <= now()
                                  ORDER BY remind_at LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING incident_id, told
)
SELECT over.told, {INCIDENT}
FROM over CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = over.incident_id LIMIT 1) i
"""

ONGOING_TYPES = "SELECT resource_id, type FROM ongoing WHERE resource_id = ANY($1)"


Wish = tuple[UUID, str]
"""What an incident is unique by while it lasts: the resource and the type."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What an incident says of its resource, and who is to be told."""

    project_id: UUID
    type: str
    name: str
    url: str
    recipients: list[Recipient]


async def open_units(
    tx: Tx, units: Sequence[Sequence[Opening]], *, public_url: str
) -> list[list[Opened | Missing | None]]:
    """Open incidents for several callers at once, and queue what tells of them.

    Each unit is one caller's wish: it opens all of its incidents, or none where one of its resources is missing (that
    one is answered with `Missing`, its neighbours with None). One that is ongoing already (same resource, same type)
    is answered as it is. Results are in the order of the wishes.
    """
    resources = await _resources(tx, units, public_url)
    wanted: dict[Wish, Opening] = {}
    for unit in units:
        if all(_has(resources, opening) for opening in unit):
            for opening in unit:
                wanted.setdefault((opening.resource_id, opening.type), opening)
    lasting = await _open_or_find(tx, wanted, resources)
    results: list[list[Opened | Missing | None]] = []
    for unit in units:
        if not all(_has(resources, opening) for opening in unit):
            results.append([None if _has(resources, opening) else Missing() for opening in unit])
            continue
        answers: list[Opened | Missing | None] = []
        for opening in unit:
            wish = (opening.resource_id, opening.type)
            answers.append(lasting[wish])
            lasting[wish] = Opened(lasting[wish].incident, new=False)
        results.append(answers)
    return results


async def open(tx: Tx, openings: Sequence[Opening], *, public_url: str) -> list[Opened | Missing]:
    """Open each incident for itself: a missing resource concerns no other."""
    units = await open_units(tx, [[opening] for opening in openings], public_url=public_url)
    return [answer for unit in units for answer in unit if answer is not None]


def _has(resources: Mapping[UUID, Resource], opening: Opening) -> bool:
    found = resources.get(opening.resource_id)
    return found is not None and (found.project_id, found.type) == (opening.project_id, opening.resource_type)


async def _resources(tx: Tx, units: Sequence[Sequence[Opening]], public_url: str) -> dict[UUID, Resource]:
    asked = {(opening.project_id, opening.resource_id) for unit in units for opening in unit}
    found: dict[UUID, Resource] = {}
    for row in await tx.fetch(RESOURCES, *map(list, zip(*asked, strict=True))) if asked else ():
        resource_id = key(row["resource_id"])
        if resource_id not in found:
            url = row["url"] or f"{public_url}/servers/{ids.public(ids.SERVER, resource_id)}"
            found[resource_id] = Resource(key(row["owner_id"]), row["resource_type"], row["name"], url, [])
        if row["id"] is not None:
            found[resource_id].recipients.append(queue.recipient(row))
    return found


async def _open_or_find(
    tx: Tx, wanted: Mapping[Wish, Opening], resources: Mapping[UUID, Resource]
) -> dict[Wish, Opened]:
    """Each wish's incident. One that another transaction ends in between is opened after all."""
    lasting: dict[Wish, Opened] = {}
    while missing := {wish: opening for wish, opening in wanted.items() if wish not in lasting}:
        for incident in await _begin(tx, missing.values(), resources):
            lasting[incident.resource_id, incident.type] = Opened(incident, new=True)
        conflicts = [wish for wish in missing if wish not in lasting]
        if conflicts:
            for row in await tx.fetch(ONGOING, *map(list, zip(*conflicts, strict=True))):
                incident = _incident(row)
                lasting[incident.resource_id, incident.type] = Opened(incident, new=False)
    return lasting


async def _begin(tx: Tx, openings: Iterable[Opening], resources: Mapping[UUID, Resource]) -> list[Incident]:
    """Open what is not ongoing yet, with its deliveries. Sorted, so that two transactions lock in the same order."""
    by_id = {ids.new(): opening for opening in sorted(openings, key=lambda each: (each.resource_id, each.type))}
    begun = await tx.fetch(
        BEGIN,
        [opening.resource_id for opening in by_id.values()],
        [opening.type for opening in by_id.values()],
        list(by_id),
        [opening.project_id for opening in by_id.values()],
        [",".join(str(to.id) for to in resources[each.resource_id].recipients) for each in by_id.values()],
    )
    incidents = []
    for row in begun:
        incident_id, now = key(row["incident_id"]), row["now"]
        opening = by_id[incident_id]
        resource, seen = resources[opening.resource_id], opening.evidence or NO_EVIDENCE
        incidents.append(
            Incident(
                id=incident_id,
                project_id=opening.project_id,
                resource_type=opening.resource_type,
                resource_id=opening.resource_id,
                resource_name=resource.name,
                resource_url=resource.url,
                type=opening.type,
                message=opening.message,
                created_at=now,
                updated_at=now,
                request=seen.request,
                request_headers=seen.request_headers,
                response=seen.response,
                response_headers=seen.response_headers,
            )
        )
    if incidents:
        await tx.execute(STORE, *map(list, zip(*map(_stored, incidents), strict=True)))
        await queue.put(
            tx,
            [
                Entry(to, "opened", content(incident))
                for incident in incidents
                for to in resources[incident.resource_id].recipients
            ],
        )
    return incidents


def _stored(incident: Incident) -> tuple[object, ...]:
    return (
        incident.id, incident.project_id, incident.resource_type, incident.resource_id, incident.resource_name,
        incident.resource_url, incident.type, incident.message, incident.request, incident.request_headers,
        incident.response, incident.response_headers,
    )  # fmt: skip


def _incident(row: Record) -> Incident:
    values: dict[str, Any] = {name: key(row[name]) if name in KEYS else row[name] for name in FIELDS}
    return Incident(**values)


async def resolve(tx: Tx, closings: Sequence[Closing]) -> list[list[Incident]]:
    """End what is ongoing, and queue what tells of it to all who were told of its beginning.

    One list for each closing, empty where nothing was ongoing. An opening that has not been delivered yet goes out
    first (to machines), or is left out in favour of a resolve that says both (to people): see `deliveries.overtake`.
    """
    whole = await ongoing_types(tx, {each.resource_id for each in closings if each.type is None})
    by: dict[Wish, Closing] = {}
    for each in closings:
        for type_ in [each.type] if each.type is not None else sorted(whole[each.resource_id]):
            by.setdefault((each.resource_id, type_), each)
    wishes = sorted(by)
    ended = await tx.fetch(
        END, [by[wish].project_id for wish in wishes], [wish[0] for wish in wishes], [wish[1] for wish in wishes]
    )
    if not ended:
        return [[] for _ in closings]
    told = {key(row["incident_id"]): [key(to) for to in row["told"]] for row in ended}
    words = [by[key(row["resource_id"]), row["type"]].by for row in ended]
    closed = [_incident(row) for row in await tx.fetch(CLOSE, list(told), words)]
    known = await queue.recipients(tx, {to for everyone in told.values() for to in everyone})
    waiting = await deliveries.overtake(tx, told, [to.id for to in known.values() if to.for_people])
    entries = []
    for incident in closed:
        for to in told[incident.id]:
            if to in known:
                first = waiting.get((incident.id, to), ON_TIME)
                entries.append(Entry(known[to], "resolved", content(incident), first.behind, first.failed))
    await queue.put(tx, entries)
    found: dict[UUID, list[Incident]] = {}
    for incident in closed:
        found.setdefault(incident.resource_id, []).append(incident)
    return [
        [each for each in found.get(closing.resource_id, ()) if closing.type in (None, each.type)]
        for closing in closings
    ]


async def forget_resource(tx: Tx, project_id: UUID, resource_id: UUID) -> None:
    """Before a server or monitor is deleted: end its incidents, suppress what is outstanding about them, detach it."""
    reason = "its resource was deleted"
    ended = await resolve(tx, [Closing(project_id, resource_id, None, reason)])
    await deliveries.suppress_incidents(tx, [incident.id for incident in ended[0]], reason)
    await tx.execute("DELETE FROM attachments WHERE resource_id = $1", resource_id)


async def one(tx: Tx, project_id: UUID, incident_id: UUID) -> Incident | None:
    """The project's incident of that key."""
    row = await tx.fetchrow(ONE, incident_id, project_id)
    return row and _incident(row)


async def list_(
    tx: Tx, project_id: UUID, *, ongoing: bool | None, limit: int, offset: int
) -> tuple[list[Incident], int]:
    """A page of incidents, ongoing first, then newest, and how many there are in all."""
    first = 0 if ongoing is False else await tx.fetchval(COUNT, project_id, True)
    rest = 0 if ongoing is True else await tx.fetchval(COUNT, project_id, False)
    rows = await tx.fetch(NEWEST, project_id, True, limit, offset) if offset < first else []
    if rest and len(rows) < limit:
        rows += await tx.fetch(NEWEST, project_id, False, limit - len(rows), max(0, offset - first))
    return [_incident(row) for row in rows], first + rest


async def snooze(tx: Tx, project_id: UUID, incident_id: UUID, until: datetime) -> Incident | None:
    """Say nothing more about an ongoing incident until then; None where it is not ongoing.

    What waits to be sent is put off to that moment. If it is still ongoing then, `remind` says so again.
    """
    await tx.execute(REMIND_AT, incident_id, project_id, until)
    row = await tx.fetchrow(SNOOZE, incident_id, project_id, until)
    if row is None:
        return None
    await deliveries.postpone(tx, incident_id, until)
    return _incident(row)


async def remind(tx: Tx, limit: int) -> int:
    """Tell again of incidents whose snooze is over, except where the first notice is still waiting. How many were."""
    rows = await tx.fetch(SNOOZED_OUT, limit)
    known = await queue.recipients(tx, {key(to) for row in rows for to in row["told"]})
    waiting = await deliveries.outstanding_openings(tx, [row["id"] for row in rows])
    await queue.put(
        tx,
        [
            Entry(known[key(to)], "opened", content(_incident(row)))
            for row in rows
            for to in row["told"]
            if key(to) in known and (key(row["id"]), key(to)) not in waiting
        ],
    )
    return len(rows)


async def ongoing_types(tx: Tx, resources: Iterable[UUID]) -> dict[UUID, set[str]]:
    """The types of incident that are ongoing for each of these resources; all of them are in the answer."""
    types: dict[UUID, set[str]] = {resource: set() for resource in resources}
    for row in await tx.fetch(ONGOING_TYPES, list(types)) if types else ():
        types[key(row["resource_id"])].add(row["type"])
    return types
