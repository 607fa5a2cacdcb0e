"""Summaries: what is over an integration's limit goes out as one message when the span is over, and so do its ends.

`domain.floods` says what is over it. Each delivery that is in a summary ends with the summary's identifier as reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tocsin.domain import ids, names, notifying
from tocsin.domain.floods import Flood
from tocsin.domain.incidents import MAX_MESSAGE_LENGTH, format_duration
from tocsin.storage.delivery import incidents, outstanding, queue
from tocsin.storage.delivery.queue import Content, HeldEntry, QueueEntry
from tocsin.storage.notifying import circumstances
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

MOST = 5_000
"""Deliveries of one summary."""

DUE = """
SELECT DISTINCT integration_id FROM (
    SELECT integration_id FROM outstanding WHERE held IS NOT NULL AND summary AND due_at <= now()
    ORDER BY due_at LIMIT $1
) first
"""

INCIDENTS = f"""
SELECT DISTINCT incident_id FROM (
    SELECT incident_id FROM outstanding
    WHERE integration_id = $1 AND held IS NOT NULL AND summary AND due_at <= now() ORDER BY id LIMIT {MOST}
) first
"""

# In the order of every other transaction: rows in `ongoing`, the integration, deliveries.
LOCK_ONGOING = """
SELECT o.incident_id FROM unnest($1::uuid[]) AS g(incident_id)
CROSS JOIN LATERAL (SELECT resource_id, type, dedup_key FROM incidents WHERE id = g.incident_id LIMIT 1) i
JOIN ongoing o ON o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key
     AND o.incident_id = g.incident_id
ORDER BY o.resource_id, o.type, o.dedup_key FOR UPDATE OF o
"""

LOCK_INTEGRATION = "SELECT flood FROM integrations WHERE id = $1 FOR NO KEY UPDATE"

TAKE = """
SELECT q.id, q.incident_id, coalesce(q.on_behalf_of, q.integration_id) AS attached, q.event, i.resource_name, i.type,
       EXISTS (SELECT FROM ongoing o WHERE o.resource_id = i.resource_id AND o.type = i.type
               AND o.dedup_key = i.dedup_key) AS lasts
FROM (SELECT * FROM outstanding WHERE integration_id = $1 AND incident_id = ANY($2::uuid[]) AND held IS NOT NULL
      AND summary AND due_at <= now() ORDER BY id FOR UPDATE) q
LEFT JOIN LATERAL (SELECT * FROM incidents WHERE id = q.incident_id LIMIT 1) i ON true
ORDER BY q.id
"""

LET_GO = """
UPDATE outstanding SET held = NULL, summary = false, due_at = now(), released_at = now() WHERE id = $1
"""

TOLD = """
UPDATE ongoing o SET {column} = o.{column} || $2::uuid
FROM unnest($1::uuid[]) AS g(incident_id)
CROSS JOIN LATERAL (SELECT resource_id, type, dedup_key FROM incidents WHERE id = g.incident_id LIMIT 1) i
WHERE o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key
  AND o.incident_id = g.incident_id
"""
TOLD_ALONE, TOLD_IN_SUMMARY = TOLD.format(column="recipients"), TOLD.format(column="summarised")

NEXT_SPAN = """
INSERT INTO floods (integration_id, ends_at, told) VALUES ($1, now() + make_interval(secs => $2), '{}')
ON CONFLICT (integration_id) DO UPDATE
SET ends_at = greatest(floods.ends_at, excluded.ends_at),
    told = CASE WHEN floods.ends_at > now() THEN floods.told ELSE '{}' END
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """One delivery that belongs into a summary."""

    id: UUID
    incident_id: UUID
    attached: UUID
    ended: bool
    what: str


async def due(tx: Tx, limit: int) -> list[UUID]:
    """At most `limit` integrations whose summaries are due. Send each in a transaction of its own."""
    return [key(row["integration_id"]) for row in await tx.fetch(DUE, limit)]


async def send(tx: Tx, integration_id: UUID) -> None:
    """Send an integration's summary of what is due."""
    about = [row["incident_id"] for row in await tx.fetch(INCIDENTS, integration_id)]
    lasting = {key(row["incident_id"]) for row in await tx.fetch(LOCK_ONGOING, about)}
    flood = await tx.fetchval(LOCK_INTEGRATION, integration_id)
    taken = [_taken(row) for row in await tx.fetch(TAKE, integration_id, about)]
    to = (await queue.recipients(tx, [integration_id])).get(integration_id)
    if not taken or to is None:
        return
    now = await tx.fetchval("SELECT now()")
    await _follow_up(tx, to.project_id, [each for each in taken if not each.ended and each.incident_id in lasting], now)
    if len(taken) == 1:
        await _send_alone(tx, integration_id, taken[0], lasting)
        return
    seconds = msgspec.convert(flood, Flood).seconds if flood else 0
    content = Content(None, "", "Tocsin", "", "notice", text(taken, seconds), now, None)
    [summary] = await queue.put(tx, [QueueEntry(to, "notice", content)])
    await outstanding.suppress(
        tx, [each.id for each in taken], f"in the summary {ids.public(ids.DELIVERY, summary)}"
    )
    await tx.execute(TOLD_IN_SUMMARY, [each.incident_id for each in taken if not each.ended], integration_id)
    if flood:
        await tx.execute(NEXT_SPAN, integration_id, seconds)


async def _follow_up(tx: Tx, project_id: UUID, taken: Sequence[Taken], now: datetime) -> None:
    """Hold their reminders, and what goes to whoever comes on duty next."""
    lasting = await incidents.these(tx, project_id, [each.incident_id for each in taken])
    known = await circumstances.of_incidents(tx, lasting.values(), {each.attached for each in taken}, now)
    for each in taken:
        candidate = known.candidate(each.attached, lasting[each.incident_id].resource_id)
        if candidate is not None:
            about = each.attached, each.incident_id
            coming = notifying.follow_up("opened", candidate, now)
            await queue.hold(tx, [HeldEntry(*about, what, wait.reason, wait.until) for what, wait in coming])


async def _send_alone(tx: Tx, integration_id: UUID, only: Taken, lasting: set[UUID]) -> None:
    await tx.execute(LET_GO, only.id)
    if only.incident_id in lasting:
        await tx.execute(TOLD_ALONE, [only.incident_id], integration_id)
    await tx.execute("SELECT pg_notify($1, '')", queue.WAKE_CHANNEL)


def _taken(row: Record) -> Taken:
    what, ended = f"{row['type']} on {row['resource_name']}", row["event"] == "resolved"
    if ended and row["lasts"]:
        what += " (and began again)"
    return Taken(key(row["id"]), key(row["incident_id"]), key(row["attached"]), ended, what)


def text(taken: Sequence[Taken], seconds: int) -> str:
    """What one message says about all of these: how many, which still last, and which are over."""
    lasting = [each.what for each in taken if not each.ended]
    over = [each.what for each in taken if each.ended]
    parts = []
    if lasting:
        within = f" within {format_duration(seconds)}" if seconds else ""
        parts.append(f"{len(lasting)} more incidents{within}, which still last: {'; '.join(lasting)}.")
    if over:
        parts.append(f"{len(over)} incidents are over: {'; '.join(over)}.")
    return names.cut(" ".join(parts), MAX_MESSAGE_LENGTH)
