"""What a silence can name: resources of whatever kind, and integrations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.postgres.database import Tx, key

# Locked so that none is deleted while it is being named.
OWNED = {
    kind.type: f"SELECT id FROM {kind.table} WHERE project_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR KEY SHARE"
    for kind in kinds().values()
}
OWNED_INTEGRATIONS = """
SELECT id FROM integrations WHERE project_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR KEY SHARE
"""

NAMED = "SELECT * FROM (" + " UNION ALL ".join(
    f"SELECT r.id, '{kind.type}' AS type, {kind.name} AS name FROM {kind.table} r WHERE r.project_id = $1 {{which}}"
    for kind in kinds().values()
) + ") named ORDER BY lower(name), id LIMIT $2"  # fmt: skip
ALL_RESOURCES = NAMED.format(which="")
THESE_RESOURCES = NAMED.format(which="AND r.id = ANY($3::uuid[])")


async def held(tx: Tx, project_id: UUID, resources: Mapping[str, Collection[UUID]]) -> set[UUID]:
    """Those of the project's resources, given by kind, that exist; they stay until the transaction ends."""
    return {
        key(row["id"])
        for kind in sorted(resources)
        for row in await tx.fetch(OWNED[kind], project_id, list(resources[kind]))
    }


async def held_integrations(tx: Tx, project_id: UUID, keys: Collection[UUID]) -> set[UUID]:
    """Those of the project's integrations that exist; they stay until the transaction ends."""
    return {key(row["id"]) for row in await tx.fetch(OWNED_INTEGRATIONS, project_id, list(keys))}


async def named(
    tx: Tx, project_id: UUID, keys: Collection[UUID] | None, limit: int
) -> dict[UUID, tuple[Resource, str]]:
    """Kind and name of these resources of the project (None: of all), by name."""
    if keys is None:
        rows = await tx.fetch(ALL_RESOURCES, project_id, limit)
    else:
        rows = await tx.fetch(THESE_RESOURCES, project_id, limit, list(keys)) if keys else []
    return {key(row["id"]): (kinds()[row["type"]], row["name"]) for row in rows}
