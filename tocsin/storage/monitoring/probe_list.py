"""Probes for display: those that a project's monitors may be checked from, and one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain.dependencies import Written
from tocsin.storage.monitoring.probes import SILENT
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

SHOWN = f"""
SELECT p.id, p.project_id, p.name, p.only_project, p.version, p.seen_at, p.revoked_at, p.depends_on, p.created_at,
       (SELECT name FROM projects WHERE id = p.only_project) AS only_project_name,
       coalesce(u.monitors, 0) AS monitors,
       EXISTS (SELECT FROM ongoing o WHERE o.resource_id = p.id AND o.type = '{SILENT}') AS silent
FROM probes p
LEFT JOIN (
    SELECT c.place, count(*) AS monitors
    FROM network_monitors m JOIN monitor_places c ON c.monitor_id = m.id WHERE m.project_id = $1 GROUP BY c.place
) u ON u.place = p.name
"""

LIST = f"""
{SHOWN} WHERE p.only_project IS NULL OR p.only_project = $1 OR $2
ORDER BY p.revoked_at IS NOT NULL, p.name LIMIT $3 OFFSET $4
"""

ONE = f"{SHOWN} WHERE p.id = $3 AND (p.only_project IS NULL OR p.only_project = $1 OR p.project_id = $1 OR $2)"

IDS = "SELECT id, name FROM probes WHERE name = ANY ($1)"

MONITORS = """
SELECT m.id, m.name, m.url, m.paused FROM network_monitors m JOIN monitor_places p ON p.monitor_id = m.id
WHERE m.project_id = $1 AND p.place = $2
ORDER BY m.paused, p.problem IS NULL, lower(m.name), m.id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class ShownProbe:
    """A probe as a project sees it. `project_id` is the one whose incident it is if it is silent; `monitors` counts
    the monitors of the project that looks which it checks. `version` is what it said last.
    """

    id: UUID
    project_id: UUID
    name: str
    only_project: UUID | None
    only_project_name: str | None
    version: str
    seen_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    depends_on: Written
    monitors: int
    silent: bool


@dataclass(frozen=True, slots=True)
class CheckedFrom:
    """A monitor that a probe checks."""

    id: UUID
    name: str
    url: str
    paused: bool


async def list_(
    tx: Tx, project_id: UUID, *, everyones: bool, limit: int, offset: int
) -> list[ShownProbe]:
    """A page of those that the project may use, and with `everyones` of all others, too; by name, revoked ones last."""
    return [_shown(row) for row in await tx.fetch(LIST, project_id, everyones, limit, offset)]


async def one(tx: Tx, project_id: UUID, probe_id: UUID, *, everyones: bool) -> ShownProbe | None:
    """The probe with that key, if the project may use it or is told when it is silent, or `everyones` are shown."""
    row = await tx.fetchrow(ONE, project_id, everyones, probe_id)
    return row and _shown(row)


async def ids_of(tx: Tx, places: Sequence[str]) -> dict[str, UUID]:
    """The probes of these names, revoked ones, too."""
    return {row["name"]: key(row["id"]) for row in await tx.fetch(IDS, list(places))}


async def monitors(tx: Tx, project_id: UUID, name: str, *, limit: int) -> list[CheckedFrom]:
    """The project's monitors that it checks: first those that it saw down last, then by name, paused ones last."""
    rows = await tx.fetch(MONITORS, project_id, name, limit)
    return [CheckedFrom(key(row["id"]), row["name"], row["url"], row["paused"]) for row in rows]


def _shown(row: Record) -> ShownProbe:
    return ShownProbe(**{**row, "id": key(row["id"]), "project_id": key(row["project_id"])})
