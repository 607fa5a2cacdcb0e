"""Deliveries of types that must not send twice, where nobody knows any more whether they were sent: they end dead."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tocsin.domain.deliveries import Finish
from tocsin.storage.delivery import leases
from tocsin.storage.delivery.leases import Attempt, AttemptResult, LostDelivery
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

BATCH = 500

# One more attempt, of which nothing is known.
TAKE = """
UPDATE outstanding o
SET status = 'sending', past_no_return = true, held = NULL, blocked_by = NULL, engine = NULL,
    attempt = o.attempt + (o.status = 'pending')::int, started_at = coalesce(o.started_at, $1),
    leased_until = '-infinity'
FROM (SELECT id FROM outstanding WHERE NOT repeatable ORDER BY id LIMIT $2) taken
WHERE o.id = taken.id
RETURNING o.id, o.project_id, o.integration_id, o.integration_type, o.incident_id, o.event, o.attempt, o.started_at
"""


async def end_unknown(tx: Tx, reason: str, error: str, at: datetime) -> list[LostDelivery]:
    """End all that have not finished, whether they were being sent or waited. `error` is of the attempt of which
    nothing is known, and which began `at` that time, unless it is on record.
    """
    lost: list[LostDelivery] = []
    while rows := await tx.fetch(TAKE, at, BATCH):
        await leases.record(tx, [_unknown(row, reason, error) for row in rows])
        lost += [leases.lost(row, reason) for row in rows]
    return lost


def _unknown(row: Record, reason: str, error: str) -> AttemptResult:
    return AttemptResult(
        key(row["id"]), row["attempt"], key(row["integration_id"]),
        Attempt(row["started_at"], None, "lost", error=error), Finish("dead", reason),
    )  # fmt: skip
