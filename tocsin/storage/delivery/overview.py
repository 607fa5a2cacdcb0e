"""What is wrong in a project now, and what could not be delivered lately: for its first page, by index, bounded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.incidents import DRILL, Incident
from tocsin.storage.delivery.incidents import INCIDENT, of_row
from tocsin.storage.delivery.severities import rank
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key

MOST_DEAD = 1_000
"""Deliveries that are counted: the latest ones."""
MOST_DEPENDENT = 1_000
"""Incidents that are looked at for what may be behind something that is down."""
LONGEST = timedelta(days=32)
"""How long before it is given up a delivery was created at most, for it to be found."""

# Those behind something that is down come last: they are not the cause.
WORST = f"""
SELECT {INCIDENT} FROM incidents i
WHERE project_id = $1 AND closed_at IS NULL
ORDER BY i.type = ANY($3::text[]) AND EXISTS (
             SELECT FROM dependencies d JOIN ongoing o ON o.resource_id = d.parent_id AND o.type = ANY($3::text[])
             WHERE d.project_id = $1 AND d.child_id = i.resource_id),
         {rank("i.severity")}, i.acknowledged_at IS NOT NULL, i.id DESC
LIMIT $2
"""
COUNTS = """
SELECT CASE type WHEN $2 THEN type ELSE severity END AS kind, count(*)
FROM incidents WHERE project_id = $1 AND closed_at IS NULL GROUP BY kind
"""
DEPENDENT = f"""
SELECT resource_id, severity FROM incidents i
WHERE project_id = $1 AND closed_at IS NULL AND type = ANY($2::text[])
  AND EXISTS (SELECT FROM dependencies WHERE project_id = $1 AND child_id = i.resource_id)
LIMIT {MOST_DEPENDENT}
"""

# What was delivered after all, as a redelivery, is not missing.
DEAD = f"""
SELECT integration_id, count(*) AS times, min(created_at) AS first_at, max(finished_at) AS last_at
FROM (
    SELECT id, integration_id, created_at, finished_at FROM finished
    WHERE project_id = $1 AND status = 'dead' AND finished_at >= $2 AND id > $3
    ORDER BY finished_at DESC LIMIT {MOST_DEAD}
) f
WHERE (SELECT d.id FROM finished d WHERE d.redelivery_of = f.id AND d.id > f.id AND d.status = 'delivered'
       LIMIT 1) IS NULL
GROUP BY integration_id ORDER BY count(*) DESC, integration_id LIMIT $4
"""


class Undelivered(NamedTuple):
    """What could not be delivered to an integration: `times`, up to `MOST_DEAD`; created from `first_at` on."""

    integration_id: UUID
    times: int
    first_at: datetime
    last_at: datetime


async def worst(tx: Tx, project_id: UUID, *, limit: int) -> list[Incident]:
    """Ongoing incidents: causes before what they explain, the worst first, what nobody has before what somebody has."""
    return [of_row(row) for row in await tx.fetch(WORST, project_id, limit, sorted(REACHABILITY))]


async def ongoing_counts(tx: Tx, project_id: UUID) -> dict[str, int]:
    """How many incidents are ongoing of each severity, and how many are drills (`DRILL`), which are no trouble."""
    return {row["kind"]: row["count"] for row in await tx.fetch(COUNTS, project_id, DRILL)}


async def dependent(tx: Tx, project_id: UUID) -> list[tuple[UUID, str]]:
    """The resource and the severity of ongoing incidents that what the resource depends on may explain."""
    rows = await tx.fetch(DEPENDENT, project_id, sorted(REACHABILITY))
    return [(key(row["resource_id"]), row["severity"]) for row in rows]


async def undelivered(tx: Tx, project_id: UUID, since: datetime, *, limit: int) -> list[Undelivered]:
    """What was given up since then and not delivered by a redelivery: by integration, the most first."""
    rows = await tx.fetch(DEAD, project_id, since, first_key(since - LONGEST), limit)
    return [Undelivered(key(row["integration_id"]), row["times"], row["first_at"], row["last_at"]) for row in rows]
