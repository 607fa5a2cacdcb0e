"""A delivery that waits for its turn, and whether that has come."""

from __future__ import annotations

from typing import Any
from uuid import UUID

HELD = """
INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id, event,
                         status, held, due_at, created_at)
VALUES (new_id(), $1, new_id(), 'x', true, true, new_id(), 'opened', 'pending', 'a silence', now() + interval '1 d',
        now())
RETURNING id
"""
AGAIN = "UPDATE outstanding SET due_at = now() + interval '1 d' WHERE id = $1"


async def held_delivery(tx: Any, project_id: UUID) -> UUID:
    return await tx.fetchval(HELD, project_id)


async def is_due(tx: Any, delivery: UUID) -> bool:
    """Whether it is; then it waits again."""
    due = await tx.fetchval("SELECT due_at <= now() FROM outstanding WHERE id = $1", delivery)
    await tx.execute(AGAIN, delivery)
    return due
