"""The queue of a database that was restored from a backup: nothing is lost, and nothing happens twice that must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from tocsin.storage.delivery import once_only
from tocsin.storage.postgres.database import Tx

UNKNOWN = "outcome unknown: it may have happened after the backup of {at:%Y-%m-%d %H:%M} UTC, which was restored"
OLDER = "No outcome on record: the backup is older"

# Their leases are over: the first engine finds them as those of an engine that died.
END_LEASES = "UPDATE outstanding SET engine = NULL, leased_until = '-infinity' WHERE status = 'sending' AND repeatable"

# A probe knows all changes up to a number that may be higher than the backup's. So each is told everything again.
SKIP_CHANGES = "SELECT setval('place_changes', (SELECT last_value FROM place_changes) + (1::bigint << 32))"
TELL_PROBES_AGAIN = "UPDATE monitor_places SET change = nextval('place_changes')"


async def settle(tx: Tx, taken_at: datetime) -> Mapping[UUID, int]:
    """Bring the queue of a backup of that moment to now.

    What was being sent is sent again, for nobody knows its end. What may happen once only (a restart) ends dead,
    "outcome unknown", whether it was being sent or still waited: it may have been sent after the backup. Returns how
    many, by project.
    """
    ended = await once_only.end_unknown(tx, UNKNOWN.format(at=taken_at), OLDER, taken_at)
    await tx.execute(END_LEASES)
    await tx.execute(SKIP_CHANGES)
    await tx.execute(TELL_PROBES_AGAIN)
    return Counter(each.project_id for each in ended)
