"""How soon deliveries were first tried: counted part by part from what is on record, each delivery once.

A delivery is due when it was created; or, if it was held for its turn, when that came; or when what it had to follow
was over, or the snooze of its incident. What made it late is no excuse. One that still waits for another, or is
snoozed, when its part is counted, is not counted: to note when that was over would cost every delivery something.
"""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.domain import inner_loop
from tocsin.domain.deliveries import ATTEMPT_TIMEOUT
from tocsin.domain.punctuality import Objective
from tocsin.storage.delivery.queue import LASTING
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.retention import first_key

SETTLE = ATTEMPT_TIMEOUT + 2
"""Seconds after which a try that began in time is on record. What has none on record then is late."""
KEPT = 3600.0

LOCK = "SELECT pg_try_advisory_xact_lock(1668244079)"  # any number, as long as it never changes

# The next part, in the database's time: it begins where the last one ended, at most a window ago; the first, now.
NEXT = """
SELECT p.began, p.began + make_interval(secs => $1) AS ended
FROM (
    SELECT CASE WHEN max(ended) IS NULL THEN now() - make_interval(secs => $1::float8 + $3)
                ELSE greatest(max(ended), now() - make_interval(secs => $2::float8 + $3)) END AS began
    FROM first_tries
) p
WHERE p.began + make_interval(secs => $1::float8 + $3) <= now()
"""

# When its first try began, and when it was due, as far as its own row says. Those that were never held are found by
# their keys, which begin with the time; the others by when their turns came.
DUE = f"""
SELECT id, incident_id, integration_id, coalesce(released_at, created_at) AS due,
       (attempts->0->>'started_at')::timestamptz AS tried
FROM finished
WHERE id >= $1 AND id < $2 AND released_at IS NULL AND attempts <> '[]'
  AND integration_type <> '{inner_loop.INTEGRATION_TYPE}'
UNION ALL
SELECT id, incident_id, integration_id, released_at, (attempts->0->>'started_at')::timestamptz
FROM finished
WHERE released_at >= $3 AND released_at < $4 AND attempts <> '[]'
UNION ALL
SELECT id, incident_id, integration_id, coalesce(released_at, created_at),
       coalesce((attempts->0->>'started_at')::timestamptz, now())
FROM outstanding
WHERE coalesce(released_at, created_at) >= $3 AND coalesce(released_at, created_at) < $4
  AND held IS NULL AND blocked_by IS NULL
  AND (attempts <> '[]' OR attempt > 0 OR due_at < now() - make_interval(secs => $5::float8))
  AND integration_type <> '{inner_loop.INTEGRATION_TYPE}'
"""

# Only for the few that seem late: what else they had to wait for.
EXCUSED = f"""
greatest(d.due,
    (SELECT max(p.finished_at) FROM (SELECT * FROM finished WHERE incident_id = d.incident_id OFFSET 0) p
     WHERE p.integration_id = d.integration_id AND p.event IN {LASTING} AND p.finished_at <= d.tried AND p.id <> d.id),
    (SELECT i.snooze_until FROM (SELECT * FROM incidents WHERE id = d.incident_id LIMIT 1) i
     WHERE i.snooze_until <= d.tried))
"""

COUNT = f"""
SELECT count(*)::int AS tries,
       count(*) FILTER (WHERE CASE WHEN d.tried - d.due <= make_interval(secs => $5::float8) THEN false
                                   ELSE d.tried - {EXCUSED} > make_interval(secs => $5::float8) END)::int AS late
FROM ({DUE}) d
"""

KEEP = "INSERT INTO first_tries (ended, tries, late) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
AHEAD = "DELETE FROM first_tries WHERE ended > now()"
"""SQL: what was counted by another clock, that of a primary that was replaced, and will be counted by this one."""
FORGET = "DELETE FROM first_tries WHERE ended < now() - make_interval(secs => $1)"

WINDOW = """
SELECT coalesce(sum(tries), 0)::int AS tries, coalesce(sum(late), 0)::int AS late FROM first_tries
WHERE ended > now() - make_interval(secs => $1)
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """First tries of the last window, and how many of them were late."""

    tries: int
    late: int


async def count(tx: Tx, objective: Objective) -> bool:
    """Count the next part, if it can be judged by now and no other engine is at it. Returns whether it was counted."""
    if not await tx.fetchval(LOCK):
        return False
    settle = objective.within + SETTLE
    await tx.execute(AHEAD)
    part = await tx.fetchrow(NEXT, objective.part, objective.window, settle)
    if part is None:
        return False
    began, ended = part
    row = await tx.fetchrow(COUNT, first_key(began), first_key(ended), began, ended, objective.within)
    await tx.execute(KEEP, ended, row["tries"], row["late"])
    await tx.execute(FORGET, objective.window + settle + KEPT)
    return True


async def of_window(tx: Tx, objective: Objective) -> Counted:
    """What was counted of the last window."""
    row = await tx.fetchrow(WINDOW, objective.window + objective.within + SETTLE)
    return Counted(row["tries"], row["late"])
