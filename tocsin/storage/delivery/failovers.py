"""What a failover may have lost, and what must not happen for fear of one.

A standby that is promoted goes on as the primary of another timeline, with what had reached it by then. Where commits
waited for it, that is everything. Where they did not, what must not happen twice may have happened, unknown to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tocsin.storage.delivery import once_only
from tocsin.storage.delivery.leases import LostDelivery
from tocsin.storage.postgres.connecting import CLUSTER, TIMELINE_NUMBER
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.replication import FOLLOWS, REMEDY, SHOWN, SYNCHRONOUS, WANTED

REMEMBERED = "1 day"
"""For how long a database counts as a cluster after its last standby was seen."""
NOTED_AGAIN = "1 hour"

UNKNOWN = (
    "outcome unknown: another PostgreSQL server took over without synchronous replication, and what happened just "
    "before may be unknown to it"
)
NO_RECORD = "No outcome on record: what the primary knew last was lost with it"

CHANGED = f"(t.cluster, t.number) <> ({CLUSTER}, {TIMELINE_NUMBER})"

FOLLOWED = f"EXISTS (SELECT FROM pg_stat_replication r WHERE {FOLLOWS})"

# A slot is kept for a standby that is away.
SITUATION = f"""
SELECT {CHANGED} AS changed, {WANTED} AS wanted, {FOLLOWED} AS followed,
       NOT {SHOWN} OR EXISTS (SELECT FROM pg_stat_replication WHERE {SYNCHRONOUS}) AS synchronous,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary)
       OR coalesce(t.standby_seen_at > now() - interval '{REMEMBERED}', false) AS expected
FROM timeline t
"""

LOOK = f"""
SELECT {CHANGED} AS changed,
       t.synchronous <> {WANTED}
       OR ($1 OR {FOLLOWED}) AND coalesce(t.standby_seen_at < now() - interval '{NOTED_AGAIN}', true) AS to_note
FROM timeline t
"""

HOLD = f"SELECT {CHANGED} AS changed, synchronous, now() AS now FROM timeline t FOR UPDATE"

NOTE = f"""
UPDATE timeline
SET synchronous = {WANTED}, standby_seen_at = CASE WHEN $1 OR {FOLLOWED} THEN now() ELSE standby_seen_at END
"""

BEGIN = f"UPDATE timeline SET cluster = {CLUSTER}, number = {TIMELINE_NUMBER}, since = now()"

ASYNCHRONOUS = (
    "not made: the database's replication is asynchronous, and it could be made twice if the primary were lost; "
    f"{REMEDY}"
)
NO_STANDBY = (
    "not made: no standby follows the database's primary at present, and it could be made twice if the primary were "
    f"lost; bring the standby back, and {REMEDY}"
)
NO_SYNCHRONOUS_STANDBY = (
    "not made: none of the standbys in synchronous_standby_names follows the database's primary at present, and it "
    "could be made twice if the primary were lost; bring one back"
)
UNCONFIRMED = (
    "not made: no synchronous standby confirmed in time that it was about to be, and it could be made twice if the "
    "database's primary were lost; see synchronous_standby_names"
)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why something that must not happen twice is not done. `passing`: it may be otherwise in a moment."""

    reason: str
    passing: bool


@dataclass(frozen=True, slots=True)
class Situation:
    """The database, as far as something that must not happen twice is concerned.

    `changed`: another server took over, and what it may not know is not settled yet. `wanted`: commits wait for a
    standby; `synchronous`: one of those that they wait for is there. `followed`: there is any standby; `expected`:
    there should be.
    """

    changed: bool
    wanted: bool
    followed: bool
    synchronous: bool
    expected: bool

    @property
    def objection(self) -> Objection | None:
        """None for a server that is alone, as its operator meant it, and for one whose commits a standby confirms."""
        if self.wanted:
            return None if self.synchronous else Objection(NO_SYNCHRONOUS_STANDBY, passing=True)
        if self.followed:
            return Objection(ASYNCHRONOUS, passing=False)
        return Objection(NO_STANDBY, passing=True) if self.expected else None


async def situation(tx: Tx) -> Situation:
    return Situation(**await tx.fetchrow(SITUATION))


async def notice(tx: Tx, *, several_hosts: bool) -> list[LostDelivery] | None:
    """Whether another server has taken over since the last look. `several_hosts`: the database's address names several.

    Returns None if none has, or if nothing can be unknown to it. Else what had not finished and must not happen twice
    has just ended dead.
    """
    look = await tx.fetchrow(LOOK, several_hosts)
    if look["to_note"] and not look["changed"]:
        await tx.execute(NOTE, several_hosts)
    if not look["changed"]:
        return None
    before = await tx.fetchrow(HOLD)
    if not before["changed"]:  # another engine was quicker
        return None
    await tx.execute(BEGIN)
    if before["synchronous"]:
        return None
    now: datetime = before["now"]
    return await once_only.end_unknown(tx, UNKNOWN, NO_RECORD, now)
