"""Which places check a monitor, what they are asked to do at once, and what each saw last."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.domain.places import HERE, LIVING
from tocsin.storage.postgres.database import Tx, key

NOT_HERE = "timestamptz '9999-12-31'"
"""When a monitor is due here that is only checked elsewhere. It is finite, since it is not paused."""

# Until the transaction ends, so that changes are numbered in the order in which they can be seen.
LOCK = "SELECT pg_advisory_xact_lock(1668244079)"  # any number, as long as it never changes

CLEAR = "DELETE FROM monitor_places WHERE monitor_id = $1 AND place <> ALL ($2::text[])"

START_ANEW = """
INSERT INTO monitor_places AS p (monitor_id, place, version, change)
SELECT m.id, g.name, now(), nextval('place_changes')
FROM (SELECT * FROM network_monitors WHERE id = $1 LIMIT 1) m CROSS JOIN unnest($2::text[]) AS g (name)
WHERE g.name = $3 OR EXISTS (
    SELECT FROM probes p WHERE p.name = g.name AND p.revoked_at IS NULL
      AND (p.only_project IS NULL OR p.only_project = m.project_id)
)
ON CONFLICT (monitor_id, place) DO UPDATE
SET version = excluded.version, change = excluded.change, round = NULL, at = NULL, heard_at = NULL, failures = 0,
    successes = 0, problem = NULL, message = NULL, found = '[]', asked_at = NULL
"""

# Those of monitors that name a place which is a probe again.
RESTORE = """
INSERT INTO monitor_places (monitor_id, place, version, change)
SELECT m.id, $1, now(), nextval('place_changes') FROM network_monitors m
WHERE $1 = ANY (m.locations) AND ($2::uuid IS NULL OR m.project_id = $2)
ON CONFLICT (monitor_id, place) DO NOTHING
"""
REMOVE = "DELETE FROM monitor_places WHERE place = $1"
ALONE = """
SELECT count(*) FROM monitor_places p
WHERE place = $1 AND NOT EXISTS (SELECT FROM monitor_places o WHERE o.monitor_id = p.monitor_id AND o.place <> $1)
"""
USED_BY = "SELECT count(*) FROM monitor_places WHERE place = $1"

KNOWN = """
SELECT name FROM probes
WHERE revoked_at IS NULL AND (only_project IS NULL OR only_project = $1) ORDER BY name LIMIT 1000
"""

# Whoever was asked and has not answered yet is not asked again.
ASK = """
UPDATE monitor_places p SET asked_at = g.at
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS g (monitor_id, place, at)
WHERE p.monitor_id = g.monitor_id AND p.place = g.place AND p.monitor_id = ANY ($1)
  AND (p.asked_at IS NULL OR p.asked_at <= p.heard_at)
"""


SINCE = f"now() - make_interval(secs => {LIVING} * m.interval + m.timeout)"
"""A place lives for a monitor if it was heard of since then."""

OF_MONITORS = f"""
SELECT m.id, p.place, p.at, p.heard_at, p.problem, p.message, p.response_ms, p.failures, p.successes,
       coalesce(p.heard_at >= {SINCE}, false) AS lives
FROM network_monitors m JOIN monitor_places p ON p.monitor_id = m.id WHERE m.id = ANY ($1)
UNION ALL
SELECT m.id, '{HERE}', s.last_check_at, s.last_result_at, s.last_problem, NULL, s.last_response_ms, s.failures,
       s.successes, coalesce(s.last_result_at >= {SINCE}, false)
FROM network_monitors m JOIN monitor_states s ON s.monitor_id = m.id WHERE m.id = ANY ($1) AND m.locations IS NULL
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one place saw last of a monitor. `at` is when it checked, `heard_at` when it was heard of here.

    `lives`: it was heard within three intervals, and has a vote. `problem` is the type of incident that it saw, None
    if its check was good; `in_a_row` counts the checks with the same end.
    """

    place: str
    at: datetime | None = None
    heard_at: datetime | None = None
    lives: bool = False
    problem: str | None = None
    message: str | None = None
    response_ms: float | None = None
    in_a_row: int = 0
    gone: bool = False


async def start_anew(tx: Tx, monitor_id: UUID, locations: Sequence[str] | None) -> None:
    """These places check the monitor from now on, and what was seen before is no vote. None: it has no places."""
    if locations:
        await tx.execute(LOCK)
    await tx.execute(CLEAR, monitor_id, list(locations or ()))
    if locations:
        await tx.execute(START_ANEW, monitor_id, list(locations), HERE)


async def known(tx: Tx, project_id: UUID) -> list[str]:
    """The names of the places besides `here` that the project's monitors may be checked from."""
    return [row["name"] for row in await tx.fetch(KNOWN, project_id)]


async def ask(tx: Tx, asked: Collection[tuple[UUID, str, datetime]]) -> None:
    """These monitors are to be checked at once from these places, who are asked at that time."""
    if asked:
        await tx.execute(ASK, *map(list, zip(*asked, strict=True)))


async def restore(tx: Tx, place: str, only_project: UUID | None) -> None:
    """A probe of that name is there again: the monitors that name it are its again."""
    await tx.execute(LOCK)
    await tx.execute(RESTORE, place, only_project)


async def remove(tx: Tx, place: str) -> tuple[int, int]:
    """There is no such place any more. Returns how many monitors it checked, and how many of them nobody checks now."""
    used, alone = await used_by(tx, place), await tx.fetchval(ALONE, place)
    await tx.execute(REMOVE, place)
    return used, alone


async def used_by(tx: Tx, place: str) -> int:
    """How many monitors of all projects it checks."""
    return int(await tx.fetchval(USED_BY, place))


async def of_monitors(tx: Tx, monitors: Sequence[UUID]) -> dict[UUID, list[Seen]]:
    """What each place saw of these, here first, then by name."""
    found: dict[UUID, list[Seen]] = {}
    rows = await tx.fetch(OF_MONITORS, list(monitors)) if monitors else []
    for row in sorted(rows, key=lambda row: (row["place"] != HERE, row["place"])):
        found.setdefault(key(row["id"]), []).append(
            Seen(
                row["place"], row["at"], row["heard_at"], row["lives"], row["problem"], row["message"],
                row["response_ms"], row["failures"] if row["problem"] else row["successes"],
            )
        )
    return found


async def of_locations(tx: Tx, monitor: UUID, locations: Sequence[str]) -> list[Seen]:
    """What each of a monitor's locations saw, in their order; one that is `gone`, because there is none any more."""
    if not locations:
        return []
    found = {each.place: each for each in (await of_monitors(tx, [monitor])).get(monitor, ())}
    return [found.get(name, Seen(name, gone=True)) for name in locations]
