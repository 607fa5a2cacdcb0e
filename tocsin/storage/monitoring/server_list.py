"""The servers of a project for display: those with incidents first, paginated, with all that a row shows.

One statement for a page, however many servers there are on it and in the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.storage.monitoring.servers import FIELDS, LATEST, REPORTED, Server
from tocsin.storage.notifying import dependencies
from tocsin.storage.notifying.dependencies import Parent
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

NAME = "lower(coalesce(nullif(s.hostname, ''), s.motherboard_id))"

SHOWN = f"""
       {LATEST}, t.seen_at, (t.clock->>'skew')::float8 AS skew,
       (SELECT coalesce(array_agg(DISTINCT o.type ORDER BY o.type), '{{}}')
        FROM ongoing o WHERE o.resource_id = s.id) AS ongoing
"""

# What a row shows beyond its order is fetched for the page alone.
PAGE = f"""
SELECT s.*, {SHOWN}
FROM (
    SELECT s.*, {NAME} AS name,
           s.id NOT IN (SELECT resource_id FROM incidents WHERE project_id = $1 AND closed_at IS NULL) AS calm
    FROM servers s
    WHERE s.project_id = $1 AND ($2 = '' OR position(lower($2) IN {NAME}) > 0)
    ORDER BY calm, name, s.id LIMIT $3 OFFSET $4
) s
CROSS JOIN LATERAL (SELECT * FROM server_states WHERE server_id = s.id LIMIT 1) t
ORDER BY s.calm, s.name, s.id
"""

NEWEST = f"""
SELECT s.*, {SHOWN}
FROM (SELECT * FROM servers WHERE project_id = $1 ORDER BY id DESC LIMIT $2) s
CROSS JOIN LATERAL (SELECT * FROM server_states WHERE server_id = s.id LIMIT 1) t
ORDER BY s.id DESC
"""

ONE = f"""
SELECT s.*, {SHOWN}
FROM servers s JOIN server_states t ON t.server_id = s.id WHERE s.id = $2 AND s.project_id = $1
"""


@dataclass(frozen=True, slots=True)
class ServerOverview:
    """A server, when it last reported, the types of its ongoing incidents, and the seconds its clock is ahead.

    `explained_by`: those that are down and explain its incidents.
    """

    server: Server
    seen_at: datetime
    ongoing: Sequence[str]
    skew: float = 0.0
    explained_by: Sequence[Parent] = ()


async def page(tx: Tx, project_id: UUID, *, search: str, limit: int, offset: int) -> list[ServerOverview]:
    """Those whose hostname has `search` in it, in whatever case: with incidents first, then by name."""
    return await _explained(tx, [_watched(row) for row in await tx.fetch(PAGE, project_id, search, limit, offset)])


async def newest(tx: Tx, project_id: UUID, *, limit: int) -> list[ServerOverview]:
    """Those that were created last, newest first."""
    return await _explained(tx, [_watched(row) for row in await tx.fetch(NEWEST, project_id, limit)])


async def one(tx: Tx, project_id: UUID, server_id: UUID) -> ServerOverview | None:
    """The project's server with that key."""
    row = await tx.fetchrow(ONE, project_id, server_id)
    return (await _explained(tx, [_watched(row)]))[0] if row else None


async def _explained(tx: Tx, found: Sequence[ServerOverview]) -> list[ServerOverview]:
    troubled = [each.server.id for each in found if each.ongoing and each.server.depends_on]
    why = await dependencies.explanations(tx, troubled)
    return [replace(each, explained_by=why.get(each.server.id, ())) for each in found]


def _watched(row: Record) -> ServerOverview:
    values: dict[str, Any] = {name: row[name] for name in (*FIELDS, *REPORTED)}
    server = Server(**{**values, "id": key(row["id"]), "project_id": key(row["project_id"])})
    return ServerOverview(server, row["seen_at"], row["ongoing"], row["skew"] or 0.0)
