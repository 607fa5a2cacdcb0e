"""What somebody means who replies to a text message: the incident that their number was last told of."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.storage.postgres.database import Tx, key

HOURS = 24
LATEST = 500
"""Text messages, and entries of summaries, that are looked at."""

# Only of projects that still notify this number.
LAST_TOLD = f"""
SELECT t.incident_id, t.project_id, n.name
FROM (
    SELECT incident_id, project_id, at FROM sms s
    WHERE number = $1 AND incident_id IS NOT NULL AND at > now() - interval '{HOURS} h'
      AND (sent OR EXISTS (SELECT FROM sms m WHERE m.delivery_id = s.summary_id AND m.sent))
    ORDER BY at DESC LIMIT {LATEST}
) t
CROSS JOIN LATERAL (
    SELECT n.name FROM integrations n
    WHERE n.project_id = t.project_id AND n.type = 'Integrations::SmsIntegration'
      AND n.settings->>'phone_number' = $1 AND n.disabled_at IS NULL
    ORDER BY n.id LIMIT 1
) n
CROSS JOIN LATERAL (SELECT closed_at FROM incidents WHERE id = t.incident_id LIMIT 1) i
ORDER BY i.closed_at IS NOT NULL, t.at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Told:
    """An incident that a number was told of, and the name of that number in its project."""

    incident_id: UUID
    project_id: UUID
    name: str | None


async def last_told(tx: Tx, number: str) -> Told | None:
    """The latest that lasts, else the latest of all, of those that the number was told of in a day."""
    row = await tx.fetchrow(LAST_TOLD, number)
    return Told(key(row["incident_id"]), key(row["project_id"]), row["name"]) if row else None
