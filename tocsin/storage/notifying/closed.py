"""Deliveries of incidents that were over before anybody decided about them, as when no engine was running.

Whoever would have been told at once when it opened is told all the same: a machine of the beginning and the end, people
of both in one message, or in their next summary where they are told too much. What waited for its turn is never told.
The end of what was told is held only while its monitor is flapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain import notifying
from tocsin.domain.incidents import Incident
from tocsin.domain.notifying import Never, Tell, Wait
from tocsin.storage.delivery import flapping, incidents, outstanding, queue
from tocsin.storage.delivery.incidents import INCIDENT
from tocsin.storage.delivery.queue import TO_BE_DECIDED, WAKE_CHANNEL, HeldEntry, QueueEntry, Recipient, content
from tocsin.storage.notifying import circumstances, floods
from tocsin.storage.notifying.circumstances import Circumstances
from tocsin.storage.notifying.floods import Floods
from tocsin.storage.postgres.database import Tx, columns, key

if TYPE_CHECKING:
    from asyncpg import Record

DUE = """
SELECT q.id, q.incident_id, q.integration_id, coalesce(q.on_behalf_of, q.integration_id) AS attached, q.event, q.held,
       coalesce($2, now()) AS now
FROM outstanding q
WHERE q.held IS NOT NULL AND NOT q.summary AND q.due_at <= coalesce($2, now()) AND (
    SELECT o.incident_id FROM incidents i
    JOIN ongoing o ON o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key
         AND o.incident_id = i.id
    WHERE i.id = q.incident_id LIMIT 1
) IS NULL
ORDER BY q.due_at, q.id LIMIT $1
"""

# After integrations: whoever changes one locks it first, and then what waits for it.
LOCK_THESE = """
SELECT id FROM outstanding WHERE id = ANY($1::uuid[]) AND held IS NOT NULL AND NOT summary ORDER BY id FOR UPDATE
"""

THESE = f"""
SELECT {INCIDENT} FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = g.id AND closed_at IS NOT NULL LIMIT 1) i
"""

TOLD = """
SELECT d.incident_id, d.integration_id FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE incident_id = g.id AND event = 'opened' OFFSET 0) d
WHERE d.status <> 'suppressed' AND d.id <> ALL($2::uuid[])
"""

RELEASE = f"""
WITH released AS (
    UPDATE outstanding o
    SET held = NULL, due_at = now(), released_at = now(), blocks_another = true,
        {queue.PASS_ON}
    FROM unnest($1::uuid[], $2::uuid[]) AS g(id, integration_id)
    CROSS JOIN LATERAL (SELECT * FROM integrations WHERE id = g.integration_id LIMIT 1) i
    WHERE o.id = g.id
    RETURNING 1
)
SELECT pg_notify('{WAKE_CHANNEL}', '') WHERE EXISTS (SELECT FROM released)
"""

# What is still to be delivered of the beginning goes out first.
RELEASE_ENDS = f"""
WITH released AS (
    UPDATE outstanding o
    SET held = NULL, due_at = now(), released_at = now(), notice = g.note,
        blocked_by = (
            SELECT max(p.id::text)::uuid FROM (SELECT * FROM outstanding WHERE incident_id = o.incident_id OFFSET 0) p
            WHERE p.integration_id = o.integration_id AND p.event IN {queue.LASTING} AND p.held IS NULL
        ),
        first_notice_failed = o.for_people AND NOT coalesce((
            SELECT bool_or(d.status NOT IN ('suppressed', 'dead'))
            FROM (SELECT * FROM deliveries WHERE incident_id = o.incident_id OFFSET 0) d
            WHERE d.integration_id = o.integration_id AND d.event IN {queue.LASTING}
        ), false)
    FROM unnest($1::uuid[], $2::text[]) AS g(id, note) WHERE o.id = g.id AND o.id = ANY($1)
    RETURNING 1
)
SELECT pg_notify('{WAKE_CHANNEL}', '') WHERE EXISTS (SELECT FROM released)
"""

HOLD_ON = """
UPDATE outstanding o SET due_at = g.due_at FROM unnest($1::uuid[], $2::timestamptz[]) AS g(id, due_at) WHERE o.id = g.id
"""

TOO_LATE = "resolved before its turn"


async def decide_due(tx: Tx, limit: int, now: datetime | None = None) -> int:
    """Decide about at most `limit` deliveries of incidents that are over. Returns how many there were."""
    rows = await tx.fetch(DUE, limit, now)
    if not rows:
        return 0
    found = await tx.fetch(THESE, list({row["incident_id"] for row in rows}))
    over = {key(row["id"]): incidents.of_row(row) for row in found}
    began = min((each.created_at for each in over.values()), default=datetime.now(UTC))
    attached = {key(row["attached"]) for row in rows if row["event"] != "resolved"}
    known = await circumstances.of_incidents(tx, over.values(), attached, began)
    limits = await floods.of(tx, list(known.everybody))
    locked = {row["id"] for row in await tx.fetch(LOCK_THESE, [row["id"] for row in rows])}
    rows = [row for row in rows if row["id"] in locked]
    await _decide_ends(tx, [row for row in rows if row["event"] == "resolved"], over)
    decided = await _decide(tx, [row for row in rows if row["event"] != "resolved"], over, known, limits)
    if decided.ends:
        await outstanding.suppress_each(tx, decided.ends)
    if decided.releases:
        await tx.execute(RELEASE, *columns(decided.releases))
    await floods.store(tx, limits.changed)
    await queue.hold(tx, decided.summed_up)
    await queue.put(tx, decided.entries)
    return len(rows)


async def _decide_ends(tx: Tx, rows: Sequence[Record], over: dict[UUID, Incident]) -> None:
    """Ends of incidents that said that their monitor was flapping are told once it is steady."""
    if not rows:
        return
    known = await flapping.of(tx, {each.resource_id for each in over.values()})
    recipients = await queue.recipients(tx, {key(row["integration_id"]) for row in rows})
    ends, releases, holds = [], [], []
    for row in rows:
        incident, to = over.get(key(row["incident_id"])), recipients.get(key(row["integration_id"]))
        how = known.get(incident.resource_id) if incident else None
        own = how if how is not None and incident is not None and how.incident_id == incident.id else None
        if to is None or to.disabled is not None:
            ends.append((row["id"], f"integration disabled {to.disabled}" if to else "integration deleted"))
        elif own is not None and own.steady_at > row["now"]:
            holds.append((row["id"], own.steady_at))
        else:
            releases.append((row["id"], own and own.summary))
    if ends:
        await outstanding.suppress_each(tx, ends)
    if holds:
        await tx.execute(HOLD_ON, *columns(holds))
    if releases:
        await tx.execute(RELEASE_ENDS, *columns(releases))


@dataclass(slots=True)
class _Decided:
    """What ends and why, what is released to whom, and the ends that are told, at once or in the next summary."""

    ends: list[tuple[UUID, str]] = field(default_factory=list)
    releases: list[tuple[UUID, UUID]] = field(default_factory=list)
    entries: list[QueueEntry] = field(default_factory=list)
    summed_up: list[HeldEntry] = field(default_factory=list)


async def _decide(
    tx: Tx, rows: Sequence[Record], over: dict[UUID, Incident], known: Circumstances, limits: Floods
) -> _Decided:
    decided = _Decided()
    told: dict[UUID, set[UUID]] = {id_: set() for id_ in over}
    for row in await tx.fetch(TOLD, list(over), [row["id"] for row in rows]):
        told[key(row["incident_id"])].add(key(row["integration_id"]))
    recipients = await queue.recipients(tx, known.everybody)
    for row in rows:
        delivery, incident = key(row["id"]), over.get(key(row["incident_id"]))
        undecided = row["held"] == TO_BE_DECIDED and row["event"] == "opened"
        candidate = known.candidate(key(row["attached"]), incident.resource_id) if incident else None
        if incident is None or candidate is None or not undecided:
            decided.ends.append((delivery, TOO_LATE))
            continue
        known.now = incident.created_at
        spans = await known.silences(tx, incident, candidate)
        occasion = known.occasion(incident, told[incident.id])
        match notifying.decide("opened", candidate, occasion, known.everybody, spans, incident.created_at):
            case Never(reason):
                decided.ends.append((delivery, reason))
            case Wait():
                decided.ends.append((delivery, TOO_LATE))
            case Tell(to):
                told[incident.id].add(to)
                _tell(decided, limits, recipients[to], incident, delivery, row["now"])
    return decided


def _tell(
    decided: _Decided, limits: Floods, to: Recipient, incident: Incident, delivery: UUID, now: datetime
) -> None:
    if not to.repeatable:
        decided.ends.append((delivery, TOO_LATE))
    elif not to.for_people:
        decided.releases.append((delivery, to.id))
        decided.entries.append(QueueEntry(to, "resolved", content(incident), blocked_by=delivery))
    else:
        decided.ends.append((delivery, outstanding.RESOLVED_FIRST))
        summary_at = limits.until(to.id, incident.resource_id, now)
        if summary_at is not None:
            decided.summed_up.append(
                HeldEntry(to.id, incident.id, "resolved", incidents.IN_NEXT_SUMMARY, summary_at, summary=True)
            )
        else:
            limits.count(to.id, incident.resource_id, now)
            decided.entries.append(QueueEntry(to, "resolved", content(incident), first_notice_failed=True))
