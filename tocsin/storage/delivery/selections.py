"""Which finished deliveries of an integration a replay sends again, in the order in which they were created.

Left out are tests and notices, redeliveries (the original stands for them), what is being sent again already or, unless
those that were delivered are asked for, was delivered by a redelivery; and what is about incidents no longer on record.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tocsin.domain.deliveries import Event
from tocsin.domain.replays import Selection, Status
from tocsin.storage.delivery.deliveries import SKEW
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key

if TYPE_CHECKING:
    from asyncpg import Record

# {f} is a row of `finished`; $1 integration, $2 project, $3 and $4 the range of creation, $5 the latest end, $6 to $7
# the keys.
# Scalar subqueries instead of EXISTS: they are never planned as a join that reads a table from end to end.
# An incident has one beginning and one end for each recipient, but may have thousands of reminders: those are looked up
# one by one. A redelivery of a redelivery counts where there is only one original.
NOT_SENT_AGAIN = """
  AND (SELECT d.id FROM finished d WHERE d.redelivery_of = {f}.id AND d.id > {f}.id AND d.status = 'delivered'
       LIMIT 1) IS NULL
  AND NOT ({f}.event IN ('opened', 'resolved') AND EXISTS (
        SELECT FROM finished d
        WHERE d.incident_id = {f}.incident_id AND d.integration_id = {f}.integration_id AND d.event = {f}.event
          AND d.id > {f}.id AND d.status = 'delivered' AND d.redelivery_of IS NOT NULL))"""
CHOSEN = """
      {f}.status = '{status}'
  AND {f}.created_at >= $3 AND {f}.created_at < $4 AND {f}.finished_at <= coalesce($5, now())
  AND {f}.project_id = $2 AND {f}.incident_id IS NOT NULL AND {f}.event NOT IN ('test', 'notice')
  AND {f}.redelivery_of IS NULL
  AND (SELECT o.id FROM outstanding o
       WHERE o.incident_id = {f}.incident_id AND o.integration_id = {f}.integration_id AND o.redelivery_of = {f}.id
       LIMIT 1) IS NULL{not_sent_again}"""

COUNT = """
SELECT event, count(*) FROM (
    SELECT f.event FROM finished f
    WHERE f.integration_id = $1 AND f.id > $6 AND f.id < $7{partial}
      AND {chosen}
      AND (SELECT i.id FROM incidents i WHERE i.id = f.incident_id LIMIT 1) IS NOT NULL
    LIMIT $8
) found GROUP BY event
"""

# Beside each, the end of its incident, where the replay would not send it by itself: a receiver that is told so late of
# the beginning must be told the end after it (again), or it would take the incident for ongoing.
NEXT = """
SELECT f.id, f.event, f.incident_id, e.id AS end_id
FROM (
    SELECT f.id, f.event, f.incident_id, f.integration_id FROM finished f
    WHERE f.integration_id = $1 AND f.id > $6 AND f.id < $7{partial}
      AND {chosen}
      AND (SELECT i.id FROM incidents i WHERE i.id = f.incident_id LIMIT 1) IS NOT NULL
    ORDER BY f.id LIMIT $8
) f
CROSS JOIN LATERAL (SELECT closed_at FROM incidents WHERE id = f.incident_id LIMIT 1) i
LEFT JOIN LATERAL (
    SELECT r.id FROM finished r
    WHERE r.incident_id = f.incident_id AND r.integration_id = f.integration_id AND r.event = 'resolved'
      AND r.redelivery_of IS NULL AND f.event <> 'resolved' AND i.closed_at IS NOT NULL
      AND NOT ({of_end})
      AND NOT EXISTS (SELECT FROM finished l
                      WHERE l.incident_id = f.incident_id AND l.integration_id = f.integration_id AND l.id > f.id
                        AND l.event <> 'resolved' AND {of_later})
    ORDER BY r.id LIMIT 1
) e ON true
ORDER BY f.id
"""


def _chosen(f: str, status: Status) -> str:
    again = "" if status == "delivered" else NOT_SENT_AGAIN.format(f=f)
    return CHOSEN.format(f=f, status=status, not_sent_again=again)


def _statement(template: str, status: Status) -> str:
    return template.format(
        chosen=_chosen("f", status), of_end=_chosen("r", status), of_later=_chosen("l", status),
        partial="" if status == "delivered" else " AND f.status <> 'delivered'",
    )  # fmt: skip


STATUSES: tuple[Status, ...] = ("dead", "suppressed", "delivered")
COUNTS = {status: _statement(COUNT, status) for status in STATUSES}
NEXTS = {status: _statement(NEXT, status) for status in STATUSES}


class Missed(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is to be sent again. `end` is that of its incident's end, if that must follow it."""

    id: UUID
    event: Event
    incident_id: UUID
    end: UUID | None


async def count(
    tx: Tx, project_id: UUID, integration_id: UUID, selection: Selection, *, limit: int
) -> dict[Event, int]:
    """How many of which event there are now, up to `limit` in all."""
    arguments = _arguments(project_id, integration_id, selection, None, None)
    return dict(await tx.fetch(COUNTS[selection.status], *arguments, limit))


async def after(
    tx: Tx, project_id: UUID, integration_id: UUID, selection: Selection, *, finished_by: datetime, last: UUID | None,
    limit: int,
) -> list[Missed]:
    """The next ones after `last`, oldest first."""
    arguments = _arguments(project_id, integration_id, selection, finished_by, last)
    return [_missed(row) for row in await tx.fetch(NEXTS[selection.status], *arguments, limit)]


def _arguments(
    project_id: UUID, integration_id: UUID, selection: Selection, finished_by: datetime | None, last: UUID | None
) -> list[object]:
    lowest, highest = first_key(selection.start - SKEW), first_key(selection.end + SKEW)
    return [integration_id, project_id, selection.start, selection.end, finished_by, last or lowest, highest]


def _missed(row: Record) -> Missed:
    ended = row["end_id"]
    return Missed(key(row["id"]), row["event"], key(row["incident_id"]), key(ended) if ended else None)
