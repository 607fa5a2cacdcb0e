"""The integrations of a project for display: with where each is attached and its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.channels.integrations import COLUMNS, Integration, of_row
from tocsin.storage.notifying.blocked import UNVERIFIED
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record

MAX_WAITING = 1000
LATEST = 20
"""Deliveries among which the last that was sent is looked for: what was suppressed says nothing about its receiver."""
FITNESS = "(disabled_at IS NULL AND failing_since IS NULL)"
GLANCE = f"""
SELECT {COLUMNS}, {UNVERIFIED} AS unverified, a.places, w.waiting, f.status AS last_status, f.finished_at AS last_at
FROM (SELECT * FROM integrations WHERE {{which}}) i
LEFT JOIN LATERAL (SELECT count(*) AS places FROM attachments WHERE integration_id = i.id) a ON true
LEFT JOIN LATERAL (SELECT count(*) AS waiting FROM
                   (SELECT FROM outstanding WHERE integration_id = i.id AND held IS NULL
                    LIMIT {MAX_WAITING}) first) w ON true
LEFT JOIN LATERAL (SELECT status, finished_at FROM
                   (SELECT id, status, finished_at FROM finished WHERE integration_id = i.id
                    ORDER BY id DESC LIMIT {LATEST}) newest
                   ORDER BY status = 'suppressed', id DESC LIMIT 1) f ON true
ORDER BY {FITNESS}, i.id
"""
AT_A_GLANCE = GLANCE.format(which="project_id = $1 AND id = $2")
OVERVIEW = GLANCE.format(which=f"project_id = $1 ORDER BY {FITNESS}, id LIMIT $2 OFFSET $3")

PLACES = " UNION ALL ".join(
    f"""
SELECT '{kind.type}' AS kind, r.id, {kind.name} AS name FROM {kind.table} r
WHERE r.project_id = $1
  AND {{has}} (SELECT FROM attachments a WHERE a.integration_id = $2 AND a.resource_id = r.id)
  AND ($3 = '' OR position(lower($3) IN lower({kind.name})) > 0)
"""
    for kind in kinds().values()
) + "ORDER BY name, id LIMIT $4"
# Two statements instead of a parameter: only then does the plan of the first start from the attachments.
ATTACHED_PLACES, FREE_PLACES = PLACES.format(has="EXISTS"), PLACES.format(has="NOT EXISTS")

@dataclass(frozen=True, slots=True)
class Overview:
    """An integration with a summary: where it is attached, and the outcome of its last notification.

    `waiting` stops counting at 1,000.
    """

    integration: Integration
    unverified: bool
    places: int
    waiting: int
    last_status: str | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """A server or monitor that an integration is, or may be, attached to."""

    kind: Resource
    id: UUID
    name: str


async def page(tx: Tx, vault: Vault, project_id: UUID, *, limit: int, offset: int) -> list[Overview]:
    """A page of the project's integrations, disabled or failing ones first, then oldest."""
    return [_overview(vault, row) for row in await tx.fetch(OVERVIEW, project_id, limit, offset)]


async def one(tx: Tx, vault: Vault, project_id: UUID, integration_id: UUID) -> Overview | None:
    """The project's integration with that key, as the list shows it."""
    row = await tx.fetchrow(AT_A_GLANCE, project_id, integration_id)
    return row and _overview(vault, row)


async def places(
    tx: Tx, project_id: UUID, integration_id: UUID, *, attached: bool, search: str, limit: int
) -> list[Place]:
    """The project's servers and monitors that it is attached to (or not), with `search` in their names, by name."""
    statement = ATTACHED_PLACES if attached else FREE_PLACES
    rows = await tx.fetch(statement, project_id, integration_id, search, limit)
    return [Place(kinds()[row["kind"]], key(row["id"]), row["name"]) for row in rows]


def _overview(vault: Vault, row: Record) -> Overview:
    return Overview(
        of_row(vault, row), row["unverified"], row["places"], row["waiting"], row["last_status"], row["last_at"]
    )
