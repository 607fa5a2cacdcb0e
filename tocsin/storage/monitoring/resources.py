"""What the pages of a server and of a monitor have in common: past incidents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.storage.postgres.database import Tx, key

PAST = """
SELECT id, type, message, severity, created_at, closed_at, snooze_until, acknowledged_by, acknowledged_until,
       silenced_by
FROM incidents
WHERE resource_id = $2 AND project_id = $1 AND (closed_at IS NULL OR closed_at >= $3)
ORDER BY id DESC LIMIT $4
"""


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
