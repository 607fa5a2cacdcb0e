"""On-call schedules as they are decided by: the settings of on-call integrations, with their overrides."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.on_call import TYPE, Override, Schedule
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

# Overrides in the order in which they were made: of those at the same time, the last one counts.
SCHEDULE = """
SELECT i.id, i.settings, coalesce(s.anchor, i.created_at) AS anchor, o.integrations, o.starts, o.ends
FROM integrations i
LEFT JOIN on_call_schedules s ON s.on_call_id = i.id
CROSS JOIN LATERAL (
    SELECT array_agg(integration_id ORDER BY id) AS integrations, array_agg(starts_at ORDER BY id) AS starts,
           array_agg(ends_at ORDER BY id) AS ends
    FROM on_call_overrides WHERE on_call_id = i.id AND ends_at > now()
) o
"""
SCHEDULES = f"{SCHEDULE} WHERE i.project_id = $1 AND i.type = '{TYPE}' ORDER BY i.id"
THESE = f"{SCHEDULE} WHERE i.id = ANY ($1::uuid[]) AND i.type = '{TYPE}'"


async def schedules(tx: Tx, project_id: UUID) -> dict[UUID, Schedule]:
    """The schedules of the project's on-call integrations, with the overrides that have not ended."""
    return {key(row["id"]): _schedule(row) for row in await tx.fetch(SCHEDULES, project_id)}


async def schedule(tx: Tx, on_call_ids: Collection[UUID]) -> dict[UUID, Schedule]:
    """The schedules of those of these that are on-call integrations, with the overrides that have not ended."""
    if not on_call_ids:
        return {}
    return {key(row["id"]): _schedule(row) for row in await tx.fetch(THESE, list(on_call_ids))}


def _schedule(row: Record) -> Schedule:
    settings = row["settings"]
    members = (ids.parse(ids.INTEGRATION, each) for each in settings["integrations"])
    return Schedule(
        settings["timezone"],
        settings["rotation"],
        settings.get("handover"),
        tuple(each for each in members if each is not None),
        row["anchor"],
        tuple(
            Override(key(integration), starts_at, ends_at)
            for integration, starts_at, ends_at in zip(
                row["integrations"] or (), row["starts"] or (), row["ends"] or (), strict=True
            )
        ),
    )
