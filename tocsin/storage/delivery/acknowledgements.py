"""Acknowledgements: somebody has an incident, so nobody further is told, until it is taken back or has run out.

Rows in `ongoing` are locked before incidents and deliveries, as in a resolve and in a decision.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tocsin.domain.incidents import DRILL, Incident
from tocsin.storage.delivery import incidents, outstanding, queue
from tocsin.storage.delivery.incidents import INCIDENT
from tocsin.storage.delivery.queue import TO_BE_DECIDED, HeldEntry
from tocsin.storage.postgres.database import Tx, key

LOCK = """
UPDATE ongoing o SET rearm_at = $3
FROM (SELECT resource_id, type, dedup_key FROM incidents WHERE id = $1 AND project_id = $2 LIMIT 1) i
WHERE o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key AND o.incident_id = $1
RETURNING o.recipients
"""

ACKNOWLEDGE = f"""
UPDATE incidents i SET acknowledged_at = now(), acknowledged_by = $3, acknowledged_until = $4, updated_at = now()
WHERE id = $1 AND project_id = $2 AND closed_at IS NULL
RETURNING {INCIDENT}
"""

TAKE_BACK = f"""
UPDATE incidents i
SET acknowledged_at = NULL, acknowledged_by = NULL, acknowledged_until = NULL, updated_at = now()
WHERE id = $1 AND project_id = $2 AND closed_at IS NULL AND acknowledged_at IS NOT NULL
RETURNING {INCIDENT}
"""

NOTE = """
INSERT INTO acknowledgements (incident_id, project_id, at, by_whom, until, taken_back)
VALUES ($1, $2, now(), $3, $4, $5)
"""

OF_INCIDENT = """
SELECT at, by_whom, until, taken_back FROM acknowledgements WHERE incident_id = $1 AND project_id = $2
ORDER BY at LIMIT $3
"""

# Those whose latest telling was called off, and that have none under way.
CALLED_OFF = """
SELECT DISTINCT f.integration_id, f.event FROM finished f
WHERE f.incident_id = $1 AND f.status = 'suppressed' AND f.event IN ('opened', 'reminder')
  AND f.reason LIKE 'acknowledged by %'
  AND NOT EXISTS (SELECT FROM outstanding o WHERE o.incident_id = f.incident_id AND o.event = f.event
                  AND f.integration_id IN (o.integration_id, o.on_behalf_of))
"""

RUN_OUT = """
SELECT i.id, i.project_id, i.acknowledged_by, o.recipients || o.summarised AS told
FROM (SELECT * FROM ongoing WHERE rearm_at <= now() ORDER BY rearm_at LIMIT $1 FOR UPDATE SKIP LOCKED) o
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = o.incident_id LIMIT 1) i
"""

RAN_OUT = "the clock"
"""Who takes back an acknowledgement that has run out."""
MOST = 200


class Entry(NamedTuple):
    """Somebody acknowledged an incident, or took that back."""

    at: datetime
    by: str
    until: datetime | None
    taken_back: bool


async def acknowledge(
    tx: Tx, project_id: UUID, incident_id: UUID, by: str, until: datetime | None
) -> tuple[Incident, list[UUID]] | None:
    """Record who has an ongoing incident (until then, or until it is resolved), and call off what waits to tell of it.

    Of a drill nothing is called off: everybody is asked to acknowledge it. Returns it, and the integrations that were
    told of it; None where it is not ongoing.
    """
    recipients = await tx.fetchval(LOCK, incident_id, project_id, until)
    row = await tx.fetchrow(ACKNOWLEDGE, incident_id, project_id, by, until)
    if row is None:
        return None
    await tx.execute(NOTE, incident_id, project_id, by, until, False)
    if row["type"] != DRILL:
        await outstanding.call_off(tx, incident_id, f"acknowledged by {by}")
    return incidents.of_row(row), [key(each) for each in recipients or ()]


async def take_back(tx: Tx, project_id: UUID, incident_id: UUID, by: str) -> Incident | None:
    """Nobody has it any more: what was called off is due again. None where it is not ongoing and acknowledged."""
    await tx.execute(LOCK, incident_id, project_id, None)
    row = await tx.fetchrow(TAKE_BACK, incident_id, project_id)
    if row is None:
        return None
    await tx.execute(NOTE, incident_id, project_id, by, None, True)
    called_off = await tx.fetch(CALLED_OFF, incident_id)
    await queue.hold(
        tx, [HeldEntry(key(each["integration_id"]), incident_id, each["event"], TO_BE_DECIDED) for each in called_off]
    )
    return incidents.of_row(row)


async def rearm(tx: Tx, limit: int) -> list[Incident]:
    """Take back acknowledgements that have run out, and remind those who were told. Returns of which incidents."""
    rows = await tx.fetch(RUN_OUT, limit)
    taken_back = [await take_back(tx, key(row["project_id"]), key(row["id"]), RAN_OUT) for row in rows]
    told = [(key(row["id"]), key(to)) for row in rows for to in row["told"]]
    notes = {key(row["id"]): f"{row['acknowledged_by']} had it until now" for row in rows}
    await outstanding.remind(tx, told, notes)
    return [each for each in taken_back if each is not None]


async def of_incident(tx: Tx, project_id: UUID, incident_id: UUID) -> list[Entry]:
    """Who has had it, oldest first."""
    return [Entry(*row.values()) for row in await tx.fetch(OF_INCIDENT, incident_id, project_id, MOST)]
