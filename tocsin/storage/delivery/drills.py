"""Fire drills: how each went, and their end."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tocsin.domain.incidents import DRILL, Incident, ResolveRequest
from tocsin.storage.delivery import acknowledgements, deliveries, incidents
from tocsin.storage.delivery.acknowledgements import Entry
from tocsin.storage.postgres.database import Tx, key

SECONDS = 1800
"""After this long, a drill ends by itself."""
MOST = 500

OVER = """
SELECT i.project_id, i.resource_id, i.id FROM ongoing o
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = o.incident_id LIMIT 1) i
WHERE o.type = 'drill' AND i.created_at < now() - make_interval(secs => $2) LIMIT $1
"""


class Reached(NamedTuple):
    """One that was to be told of a drill. `after` is the seconds from its beginning to the delivery."""

    integration_id: UUID
    integration_type: str
    on_behalf_of: UUID | None
    status: str
    reason: str | None
    after: float | None


class Result(NamedTuple):
    """How a drill went."""

    reached: list[Reached]
    acknowledged: list[Entry]


async def result(tx: Tx, drill: Incident) -> Result:
    """Who was reached so far, in the order in which they were to be, and who acknowledged it."""
    found, _ = await deliveries.of_incident(tx, drill.project_id, drill.id, status=None, limit=MOST, offset=0)
    reached = [
        Reached(
            each.integration_id, each.integration_type, each.on_behalf_of, each.status, each.reason,
            round((each.finished_at - drill.created_at).total_seconds(), 1)
            if each.status == "delivered" and each.finished_at else None,
        )
        for each in found[::-1] if each.event == "opened"
    ]  # fmt: skip
    entries = await acknowledgements.of_incident(tx, drill.project_id, drill.id)
    return Result(reached, [each for each in entries if not each.taken_back])


async def end_over(tx: Tx, limit: int) -> int:
    """Resolve drills that have lasted for `SECONDS`. Returns how many."""
    rows = await tx.fetch(OVER, limit, SECONDS)
    over = [
        ResolveRequest(key(row["project_id"]), key(row["resource_id"]), DRILL, "the end of the drill", key(row["id"]))
        for row in rows
    ]
    await incidents.resolve(tx, over)
    return len(rows)
