"""Why a delivery was first tried late, as far as what is on record says. Read when somebody asks, never kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.delivery.first_tries import EXCUSED
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.retention import first_key

BEFORE = timedelta(minutes=5)
"""How much earlier what ended meanwhile may have been created."""
MOST = 10_000
"""Deliveries that are looked at for what ended meanwhile."""

DUE = f"""
SELECT {EXCUSED} FROM (SELECT $1::timestamptz AS due, $2::timestamptz AS tried, $3::uuid AS incident_id,
                              $4::uuid AS integration_id, $5::uuid AS id) d
"""

MEANWHILE = f"""
WITH others AS MATERIALIZED (
    SELECT integration_id, finished_at FROM finished
    WHERE id > $3 AND id < $4 AND attempts <> '[]' AND id <> $5 ORDER BY id LIMIT {MOST}
), same AS MATERIALIZED (
    SELECT finished_at FROM finished
    WHERE integration_id = $6 AND id > $3 AND id < $4 AND attempts <> '[]' AND id <> $5 ORDER BY id LIMIT {MOST}
)
SELECT coalesce((SELECT sum(extract(epoch FROM least(ended, $2) - greatest(began, $1)))
                 FROM outages WHERE ended > $1 AND began < $2), 0)::float8 AS away,
       (SELECT count(*) FROM same WHERE finished_at > $1 AND finished_at < $2)::int AS same,
       EXISTS (SELECT FROM others WHERE finished_at > $1 AND finished_at < $2) AS others
"""


@dataclass(frozen=True, slots=True)
class Wait:
    """How many seconds a delivery waited from when it was due, and what is known of that time.

    `away`: for how many of them nobody could report, because all API processes or the database were away; `same`: how
    many others to its destination ended meanwhile; `others`: whether any did, to whomever; `returned`: how often it was
    handed to an engine that gave it back, or ended, before it tried.
    """

    seconds: float
    away: float
    same: int
    others: bool
    returned: int

    @property
    def words(self) -> str:
        """What people are told."""
        if self.same:
            ended = "1 other ended" if self.same == 1 else f"{self.same} others ended"
            why = f"for a free slot of its destination, where {ended} meanwhile"
        elif self.away >= 1 and not self.others:
            why = f"for the service or its database, which was away for {self.away:.0f} s of that"
        elif self.others:
            why = "for a free slot of its destination or its engine; others were delivered meanwhile"
        else:
            why = "for an engine or the database: no other delivery of that time is on record"
        again = f"; it was given back untried {self.returned} times" if self.returned > 1 else ""
        again = "; it was given back untried once" if self.returned == 1 else again
        return f"Waited {self.seconds:.0f} s {why}{again}"


async def late(tx: Tx, delivery: Delivery, within: float) -> Wait | None:
    """What is known of the wait, if the first try was made later than `within` seconds after it was due."""
    if not delivery.attempts:
        return None
    tried = msgspec.convert(delivery.attempts[0]["started_at"], datetime)
    due = delivery.released_at or delivery.created_at
    if (tried - due).total_seconds() <= within:
        return None
    due = await tx.fetchval(DUE, due, tried, delivery.incident_id, delivery.integration_id, delivery.id)
    seconds = (tried - due).total_seconds()
    if seconds <= within:
        return None
    row = await tx.fetchrow(
        MEANWHILE, due, tried, first_key(due - BEFORE), first_key(tried), delivery.id, delivery.integration_id
    )
    running = delivery.status == "sending"
    returned = max(0, delivery.attempt - running - len(delivery.attempts))
    return Wait(seconds, row["away"], row["same"], row["others"], returned)
