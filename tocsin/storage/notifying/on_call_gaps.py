"""Gaps of on-call schedules ahead: where whoever is on duty cannot be notified. People are warned of each once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.domain import ids, notifying, on_call
from tocsin.domain.on_call import AHEAD, TYPE, Gap, Schedule
from tocsin.storage.delivery import health
from tocsin.storage.notifying import blocked
from tocsin.storage.notifying import on_call as schedules
from tocsin.storage.notifying.on_call import NAME
from tocsin.storage.postgres.database import Tx, key

LOOK_EVERY = "50 min"
SHOWN = 5
"""Gaps that one message lists."""

USABLE = f"""
SELECT i.id FROM integrations i
WHERE i.id = ANY ($1::uuid[]) AND i.disabled_at IS NULL
  AND NOT {blocked.UNVERIFIED} AND NOT {blocked.STRANGE} AND NOT {blocked.UNPAID}
"""

DUE = f"""
SELECT i.id, i.project_id, {NAME} AS name, coalesce(s.warned, '[]') AS warned
FROM integrations i LEFT JOIN on_call_schedules s ON s.on_call_id = i.id
WHERE i.type = '{TYPE}' AND coalesce(s.looked_at, '-infinity') < now() - interval '{LOOK_EVERY}'
ORDER BY i.project_id, i.id LIMIT $1 FOR NO KEY UPDATE OF i SKIP LOCKED
"""

LOOKED = """
INSERT INTO on_call_schedules (on_call_id, project_id, warned, looked_at) VALUES ($1, $2, $3, now())
ON CONFLICT (on_call_id) DO UPDATE SET warned = excluded.warned, looked_at = now()
"""


async def usable(tx: Tx, integrations: Collection[UUID]) -> frozenset[UUID]:
    """Those of these that can be notified: enabled, their addresses verified, their plan paid where it must be."""
    return frozenset(key(row["id"]) for row in await tx.fetch(USABLE, list(integrations)))


async def ahead(tx: Tx, schedule: Schedule, now: datetime) -> list[Gap]:
    """The gaps of the next 14 days."""
    return on_call.gaps(schedule, now, now + AHEAD, await usable(tx, notifying.members(schedule)))


async def warn(tx: Tx, limit: int) -> int:
    """Look at up to `limit` schedules that were not looked at for an hour, and tell people of new gaps.

    Returns how many schedules that were.
    """
    rows = await tx.fetch(DUE, limit)
    now = await tx.fetchval("SELECT now()")
    found = await schedules.schedule(tx, [key(row["id"]) for row in rows])
    can_be_sent_to = await usable(tx, {each for schedule in found.values() for each in notifying.members(schedule)})
    for project_id, group in groupby(rows, lambda row: key(row["project_id"])):
        for row in group:
            id_ = key(row["id"])
            schedule = found[id_]
            gaps = on_call.gaps(schedule, now, now + AHEAD, can_be_sent_to)
            new = [each for each in gaps if not _known(each, row["warned"])]
            await tx.execute(LOOKED, id_, project_id, [_remembered(each) for each in gaps])
            if new:
                names = await schedules.names_of(tx, project_id, {each.integration for each in new if each.integration})
                text = f"{row['name']} ({ids.public(ids.INTEGRATION, id_)}): {words(schedule, new, names)}"
                await health.notify_people(tx, project_id, text, exclude=id_)
    return len(rows)


def words(schedule: Schedule, gaps: Sequence[Gap], names: Mapping[UUID, str]) -> str:
    """The gaps in one text, times by the clock of the schedule's zone."""
    zone = ZoneInfo(schedule.timezone)
    parts = [
        f"from {_moment(each.starts_at, zone)} until {_moment(each.ends_at, zone)} "
        + ("nobody is on duty" if each.integration is None
           else f"{names.get(each.integration, 'somebody')} is on duty, who cannot be notified")
        for each in gaps[:SHOWN]
    ]  # fmt: skip
    more = f"; and {len(gaps) - SHOWN} more times" if len(gaps) > SHOWN else ""
    fallback = "The next in the list, if there is one, is notified instead."
    return f"{'; '.join(parts)}{more} ({schedule.timezone}). {fallback}"


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%a %d %b %Y, %H:%M}"


def _remembered(gap: Gap) -> list[str | None]:
    return [gap.integration.hex if gap.integration else None, gap.starts_at.isoformat(), gap.ends_at.isoformat()]


def _known(gap: Gap, warned: Sequence[Sequence[str]]) -> bool:
    """Whether people were warned of it, or of one that it continues."""
    return any(
        whose == (gap.integration.hex if gap.integration else None)
        and datetime.fromisoformat(starts) <= gap.ends_at and datetime.fromisoformat(ends) >= gap.starts_at
        for whose, starts, ends in warned
    )  # fmt: skip
