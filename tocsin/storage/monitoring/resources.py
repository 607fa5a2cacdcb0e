"""What servers and monitors have in common for pages: past incidents, and how many of each kind there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.postgres.database import Tx, key

PAST = """
SELECT id, type, message, severity, created_at, closed_at, snooze_until, acknowledged_by, acknowledged_until,
       silenced_by
FROM incidents
WHERE resource_id = $2 AND project_id = $1 AND (closed_at IS NULL OR closed_at >= $3)
ORDER BY id DESC LIMIT $4
"""
MANY = 10_000
"""Where counting of a kind ends."""
COUNTS = " UNION ALL ".join(
    f"""
SELECT '{kind.type}' AS kind, count(*) FROM (SELECT FROM {kind.table} WHERE project_id = $1 LIMIT {MANY}) {kind.table}
"""
    for kind in kinds().values()
)


@dataclass(frozen=True, slots=True)
class Past:
    """One incident, as a list next to a chart shows it. `closed_at` is None while it is ongoing."""

    id: UUID
    type: str
    message: str
    severity: str
    created_at: datetime
    closed_at: datetime | None
    snooze_until: datetime | None
    acknowledged_by: str | None
    acknowledged_until: datetime | None
    silenced_by: UUID | None


async def incidents_of(
    tx: Tx, project_id: UUID, resource_id: UUID, *, since: datetime, limit: int = 100
) -> Sequence[Past]:
    """The newest incidents of a server or monitor, newest first, without those that were over before `since`."""
    rows = await tx.fetch(PAST, project_id, resource_id, since, limit)
    return [Past(**{**row, "id": key(row["id"])}) for row in rows]


async def counts(tx: Tx, project_id: UUID) -> dict[Resource, int]:
    """How many of each kind the project has, up to `MANY`."""
    return {kinds()[row["kind"]]: row["count"] for row in await tx.fetch(COUNTS, project_id)}
