"""Deliveries on record, as if they had been tried then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from tocsin.domain import ids
from tocsin.storage.postgres.retention import first_key

AGO = 25.0
"""Seconds ago of a delivery that can just be judged."""

PUT = """
INSERT INTO {table} (id, project_id, integration_id, integration_type, incident_id, event, status, attempt, attempts,
                     created_at, released_at{more})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10::timestamptz + make_interval(secs => $11){values})
"""
FINISHED = PUT.format(table="finished", more=", finished_at", values=", now()")
OUTSTANDING = PUT.format(
    table="outstanding", more=", due_at, for_people, repeatable, blocked_by, held",
    values=", now() - make_interval(secs => $12), false, true, $13, $14",
)  # fmt: skip


class Record:
    """Deliveries on record. Times are seconds before now."""

    def __init__(self, pool: asyncpg.Pool, project_id: UUID) -> None:
        self.pool, self.project_id = pool, project_id
        self.integration_id = ids.new()

    async def key(self, ago: float) -> tuple[UUID, datetime]:
        """Of a delivery that was created then."""
        at = await self.pool.fetchval("SELECT now() - make_interval(secs => $1)", ago)
        return UUID(int=first_key(at).int | ids.new().int % (1 << 76)), at

    async def finished(
        self, waited: float | None = 0, *, ago: float = AGO, held: float | None = None, event: str = "opened",
        incident_id: UUID | None = None, kind: str = "x", attempt: int = 1,
    ) -> UUID:
        """It was first tried so long after it was due; None: it never was."""
        new, at = await self.key(ago)
        tries = [] if waited is None else tried(at, (held or 0) + waited)
        status, attempt = ("delivered", attempt) if tries else ("suppressed", 0)
        await self.pool.execute(
            FINISHED, new, self.project_id, self.integration_id, kind, incident_id, event, status, attempt, tries,
            at, held,
        )  # fmt: skip
        return new

    async def outstanding(
        self, *, ago: float = AGO, attempt: int = 0, due: float | None = None, blocked_by: UUID | None = None,
        held: str | None = None, released: float | None = None, waited: float | None = None,
    ) -> None:
        new, at = await self.key(ago)
        tries = [] if waited is None else tried(at, waited)
        await self.pool.execute(
            OUTSTANDING, new, self.project_id, self.integration_id, "x", None, "opened", "pending", attempt, tries, at,
            released, ago if due is None else due, blocked_by, held,
        )  # fmt: skip


def tried(created_at: datetime, after: float) -> list[dict[str, Any]]:
    """One attempt, so many seconds later."""
    return [{"started_at": created_at + timedelta(seconds=after), "duration_ms": 1.0, "outcome": "delivered"}]
