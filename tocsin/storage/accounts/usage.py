"""What each project uses of an installation: what it has now, and what it was notified of within a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.domain import inner_loop
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key

COUNTED = ("members", "servers", "network_monitors", "heartbeats", "sources", "integrations", "ongoing")

PROJECTS = f"""
SELECT p.id, p.name, p.plan, {", ".join(
    f"(SELECT count(*) FROM {table} WHERE project_id = p.id) AS {table}" for table in COUNTED
)}, (SELECT count(*) FROM incidents WHERE project_id = p.id AND id >= $3 AND id < $4) AS incidents
FROM projects p WHERE p.id <> $5 ORDER BY p.created_at, p.id LIMIT $1 OFFSET $2
"""
COUNT = "SELECT count(*) FROM projects WHERE id <> $1"

# By key, which begins with the time: a part of each partition is read, once for the whole page.
DELIVERIES = """
SELECT project_id, integration_type, count(*) FILTER (WHERE status = 'delivered') AS delivered,
       count(*) FILTER (WHERE status = 'dead') AS dead
FROM finished WHERE project_id = ANY($1::uuid[]) AND id >= $2 AND id < $3
GROUP BY project_id, integration_type ORDER BY integration_type
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one project. `delivered` and `dead` are deliveries by the type of their integration."""

    id: UUID
    name: str
    plan: str
    has: Mapping[str, int]
    incidents: int
    delivered: Mapping[str, int]
    dead: Mapping[str, int]


async def of_projects(
    tx: Tx, start: datetime, end: datetime, *, limit: int, offset: int
) -> tuple[Sequence[Usage], int]:
    """A page of projects, oldest first, and how many there are. Incidents and deliveries are those created from `start`
    to before `end`.
    """
    span = first_key(start), first_key(end)
    rows = await tx.fetch(PROJECTS, limit, offset, *span, inner_loop.PROJECT)
    delivered: dict[UUID, dict[str, int]] = {key(row["id"]): {} for row in rows}
    dead: dict[UUID, dict[str, int]] = {key(row["id"]): {} for row in rows}
    for row in await tx.fetch(DELIVERIES, list(delivered), *span):
        for counts, name in ((delivered, "delivered"), (dead, "dead")):
            if row[name]:
                counts[key(row["project_id"])][row["integration_type"]] = row[name]
    found = [
        Usage(
            key(row["id"]), row["name"], row["plan"], {table: row[table] for table in COUNTED}, row["incidents"],
            delivered[key(row["id"])], dead[key(row["id"])],
        )
        for row in rows
    ]  # fmt: skip
    return found, await tx.fetchval(COUNT, inner_loop.PROJECT)
