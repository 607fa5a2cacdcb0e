"""The queue of a database that was restored from a backup: nothing is lost, and nothing happens twice that must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain.deliveries import Finish
from tocsin.storage.delivery import leases
from tocsin.storage.delivery.leases import Attempt, AttemptResult
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

BATCH = 500
UNKNOWN = "outcome unknown: it may have happened after the backup of {at:%Y-%m-%d %H:%M} UTC, which was restored"

# Their leases are over: the first engine finds them as those of an engine that died.
END_LEASES = "UPDATE outstanding SET engine = NULL, leased_until = '-infinity' WHERE status = 'sending' AND repeatable"

# One more attempt, of which nothing is known: that may have been made after the backup.
TAKE_ONCE_ONLY = """
UPDATE outstanding o
SET status = 'sending', past_no_return = true, held = NULL, blocked_by = NULL, engine = NULL,
    attempt = o.attempt + (o.status = 'pending')::int, started_at = coalesce(o.started_at, $1),
    leased_until = '-infinity'
FROM (SELECT id FROM outstanding WHERE NOT repeatable ORDER BY id LIMIT $2) taken
WHERE o.id = taken.id
RETURNING o.id, o.project_id, o.integration_id, o.attempt, o.started_at
"""

# A probe knows all changes up to a number that may be higher than the backup's. So each is told everything again.
SKIP_CHANGES = "SELECT setval('place_changes', (SELECT last_value FROM place_changes) + (1::bigint << 32))"
TELL_PROBES_AGAIN = "UPDATE monitor_places SET change = nextval('place_changes')"


async def settle(tx: Tx, taken_at: datetime) -> Mapping[UUID, int]:
    """Bring the queue of a backup of that moment to now.

    What was being sent is sent again, for nobody knows its end. What may happen once only (a restart) ends dead,
    "outcome unknown", whether it was being sent or still waited: it may have been sent after the backup. Returns how
    many, by project.
    """
    ended: Counter[UUID] = Counter()
    while rows := await tx.fetch(TAKE_ONCE_ONLY, taken_at, BATCH):
        await leases.record(tx, [_unknown(row, taken_at) for row in rows])
        ended.update(key(row["project_id"]) for row in rows)
    await tx.execute(END_LEASES)
    await tx.execute(SKIP_CHANGES)
    await tx.execute(TELL_PROBES_AGAIN)
    return ended


def _unknown(row: Record, taken_at: datetime) -> AttemptResult:
    return AttemptResult(
        key(row["id"]), row["attempt"], key(row["integration_id"]),
        Attempt(row["started_at"], None, "lost", error="No outcome on record: the backup is older"),
        Finish("dead", UNKNOWN.format(at=taken_at)),
    )  # fmt: skip
