"""Which monitors flap: they go up and down so often that only one notification says so (`domain.flapping`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from tocsin.domain.flapping import OFTEN, STEADY, WITHIN, Flapping
from tocsin.domain.monitors import PROBLEMS
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key

if TYPE_CHECKING:
    from asyncpg import Record

TYPES = "('" + "', '".join(sorted(PROBLEMS)) + "')"
"""SQL: the types of incident that a flapping monitor has many of."""

NOW = f"changed_at > now() - interval '{STEADY.total_seconds():.0f} s'"
"""SQL: whether a row of `flapping` is about now. What is older says only how it was."""

SILENT = f"""
    a.type IN {TYPES} AND (SELECT EXISTS (SELECT FROM flapping))
    AND (SELECT {NOW} FROM flapping f WHERE f.resource_id = a.resource_id LIMIT 1)
"""
"""SQL: whether the resource of the opening `a` flaps. Asked once whether any ever did."""

ANNOUNCED_BY = f"""
    coalesce((SELECT f.incident_id = i.id AND {NOW} FROM flapping f WHERE f.resource_id = i.resource_id LIMIT 1), false)
"""
"""SQL: whether the incident `i` is the one that said that its resource flaps, and it still does."""

OF = """
SELECT resource_id, incident_id, began_at, since, times, changed_at FROM flapping WHERE resource_id = ANY($1::uuid[])
"""

# The key only spares reading older partitions.
OPENED_LATELY = f"""
SELECT g.id, lately.count, lately.since,
       coalesce((SELECT {NOW} FROM flapping f WHERE f.resource_id = g.id LIMIT 1), false) AS flaps
FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT count(*) AS count, min(created_at) AS since FROM incidents
    WHERE resource_id = g.id AND id >= $2 AND created_at > now() - $3::interval AND type IN {TYPES}
) lately
"""

BEGIN = """
INSERT INTO flapping (resource_id, incident_id, began_at, since, times, changed_at)
SELECT *, now() FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::int[])
ON CONFLICT (resource_id) DO UPDATE
SET incident_id = excluded.incident_id, began_at = excluded.began_at, since = excluded.since, times = excluded.times,
    changed_at = excluded.changed_at
"""

CHANGED = f"UPDATE flapping SET changed_at = now(), times = times + $2 WHERE resource_id = ANY($1::uuid[]) AND {NOW}"


class Lately(NamedTuple):
    """How often a monitor went down within `WITHIN`, from when on, and whether it is known to flap already."""

    times: int
    since: datetime | None
    flaps: bool

    @property
    def too_often(self) -> bool:
        """Whether it flaps if it goes down once more."""
        return not self.flaps and self.times >= OFTEN


async def of(tx: Tx, resources: Collection[UUID]) -> dict[UUID, Flapping]:
    """How those of these flap, or did the last time, that ever did."""
    return {key(row["resource_id"]): _flapping(row) for row in await tx.fetch(OF, list(resources))} if resources else {}


async def lately(tx: Tx, monitors: Collection[UUID], now: datetime) -> dict[UUID, Lately]:
    """How often each of these went down lately. `now` is about when this is."""
    rows = await tx.fetch(OPENED_LATELY, list(monitors), first_key(now - WITHIN - timedelta(hours=1)), WITHIN)
    return {key(row["id"]): Lately(row["count"], row["since"], row["flaps"]) for row in rows}


async def begin(tx: Tx, announced: Mapping[UUID, Flapping]) -> None:
    """These flap as of now."""
    if announced:
        rows = [(id_, each.incident_id, each.began_at, each.since, each.times) for id_, each in announced.items()]
        await tx.execute(BEGIN, *map(list, zip(*rows, strict=True)))


async def changed(tx: Tx, monitors: Iterable[UUID], *, went_down: bool) -> None:
    """These went down, or came back: those of them that flap are not steady before `STEADY` from now."""
    concerned = list(monitors)
    if concerned:
        await tx.execute(CHANGED, concerned, int(went_down))


async def forget(tx: Tx, monitor: UUID) -> None:
    """This one is not checked any more: nothing waits for it to be steady."""
    await tx.execute("DELETE FROM flapping WHERE resource_id = $1", monitor)


def _flapping(row: Record) -> Flapping:
    return Flapping(key(row["incident_id"]), row["began_at"], row["since"], row["times"], row["changed_at"])
