"""Results of monitors' checks, for display: the latest ones, response times, uptime by day.

Hours that are rolled up count by their sums, later checks one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from tocsin.domain import percentiles
from tocsin.domain.percentiles import Percentiles
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import BUCKET

LATEST = """
SELECT c.* FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT monitor_id, at, ok, problem, message, status_code, response_ms, unreachable, place FROM checks
    WHERE monitor_id = wanted.id AND at >= now() - make_interval(days => $3) AND at <= now()
    ORDER BY at DESC LIMIT $2
) c
ORDER BY c.monitor_id, c.at DESC
"""

UPTO = "(SELECT upto FROM rollups WHERE name = 'checks')"

RAW_TIMES = """
SELECT date_bin($4::interval, at, 'epoch'::timestamptz) AS bucket, avg(response_ms) AS response_ms
FROM checks WHERE monitor_id = $1 AND at >= $2 AND at <= $3 AND ok AND response_ms IS NOT NULL
GROUP BY bucket ORDER BY bucket
"""

HOURLY_TIMES = f"""
SELECT date_bin($4::interval, at, 'epoch'::timestamptz) AS bucket, sum(response_ms * ok) / sum(ok) AS response_ms
FROM (
    SELECT at, ok, response_ms FROM checks_hourly
    WHERE monitor_id = $1 AND at >= $2 AND at <= $3 AND at < {UPTO}
    UNION ALL
    SELECT at, 1, response_ms FROM checks
    WHERE monitor_id = $1 AND at >= greatest({UPTO}, $2) AND at <= $3 AND ok
) found
WHERE ok > 0 AND response_ms IS NOT NULL
GROUP BY bucket ORDER BY bucket
"""

COUNTED_TIMES = f"""
SELECT wanted.id, t.bucket, t.count
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT bucket, sum(count)::bigint AS count FROM (
        SELECT b.bucket, b.count
        FROM checks_hourly h CROSS JOIN LATERAL unnest(h.buckets, h.bucket_counts) AS b (bucket, count)
        WHERE h.monitor_id = wanted.id AND h.at >= date_bin('1 hour', $2::timestamptz, 'epoch')
          AND h.at <= $3 AND h.at < {UPTO}
        UNION ALL
        SELECT {BUCKET}, count(*) FROM checks
        WHERE monitor_id = wanted.id AND at >= greatest({UPTO}, $2) AND at <= $3 AND ok AND response_ms IS NOT NULL
        GROUP BY 1
    ) counted
    GROUP BY bucket
) t
"""

DAYS = f"""
SELECT width_bucket(at, $2::timestamptz[]) - 1 AS day, 100.0 * sum(ok)::float8 / sum(total)::float8 AS uptime
FROM (
    SELECT at, total, ok FROM checks_hourly WHERE monitor_id = $1 AND at >= ($2::timestamptz[])[1] AND at < {UPTO}
    UNION ALL
    SELECT at, 1, CASE WHEN ok THEN 1 ELSE 0 END FROM checks
    WHERE monitor_id = $1 AND at >= greatest({UPTO}, ($2::timestamptz[])[1]) AND at <= now() AND NOT unreachable
) found
WHERE total > 0
GROUP BY day ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `problem` is the type of incident that it indicates, `message` says what happened; None: success.

    `unreachable`: it failed because something that the monitor depends on was down, or most places did not see it
    fail; it is no downtime. `place`: the probe that made it; None: here.
    """

    at: datetime
    ok: bool
    problem: str | None
    message: str | None
    status_code: int | None
    response_ms: float | None
    unreachable: bool = False
    place: str | None = None


async def latest(
    tx: Tx, monitors: Collection[UUID], *, each: int, within_days: int = 8
) -> dict[UUID, list[Check]]:
    """The latest checks of each of these monitors, newest first; all of them are in the result."""
    found: dict[UUID, list[Check]] = {monitor: [] for monitor in monitors}
    for row in await tx.fetch(LATEST, list(monitors), each, within_days) if monitors else ():
        found[key(row["monitor_id"])].append(
            Check(
                row["at"], row["ok"], row["problem"], row["message"], row["status_code"], row["response_ms"],
                row["unreachable"], row["place"],
            )
        )
    return found


async def response_times(
    tx: Tx, monitor_id: UUID, start: datetime, end: datetime, *, resolution: int
) -> list[tuple[datetime, float]]:
    """Mean milliseconds of the successful checks in buckets of `resolution` seconds, oldest first; from hours where
    whole hours are requested.
    """
    statement = HOURLY_TIMES if resolution >= 3_600 else RAW_TIMES
    rows = await tx.fetch(statement, monitor_id, start, end, timedelta(seconds=resolution))
    return [(row["bucket"], row["response_ms"]) for row in rows]


async def percentiles_of(
    tx: Tx, monitors: Collection[UUID], start: datetime, end: datetime
) -> dict[UUID, Percentiles]:
    """Of the response times of the successful checks of each of these monitors, from the beginning of the first hour;
    without those that have none.
    """
    counts: dict[UUID, dict[int, int]] = {}
    for row in await tx.fetch(COUNTED_TIMES, list(monitors), start, end) if monitors else ():
        counts.setdefault(key(row["id"]), {})[row["bucket"]] = row["count"]
    found = {monitor: percentiles.of(counted) for monitor, counted in counts.items()}
    return {monitor: each for monitor, each in found.items() if each is not None}


async def days(tx: Tx, monitor_id: UUID, midnights: Sequence[datetime]) -> dict[date, float]:
    """Percent of successful checks for each day that has any; the days begin at the midnights, oldest first."""
    # Time zones are not left to the database: it may not know the one that the reader's browser named.
    rows = await tx.fetch(DAYS, monitor_id, midnights)
    return {midnights[row["day"]].date(): row["uptime"] for row in rows}
