"""The time series of a server: averages over buckets of time, from raw samples or, once dropped, hourly ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain.servers import METRICS
from tocsin.storage.postgres.database import Tx

if TYPE_CHECKING:
    from asyncpg import Record

MEANS = ", ".join(f"avg({metric}) AS {metric}" for metric in METRICS)
VALUES = ", ".join(METRICS)

SERIES = f"""
WITH raw AS MATERIALIZED (
    SELECT at, {VALUES} FROM samples WHERE server_id = $1 AND at >= $2::timestamptz AND at <= $3::timestamptz
)
SELECT date_bin($4::interval, at, 'epoch'::timestamptz) AS bucket, {MEANS}
FROM (
    SELECT at, {VALUES} FROM raw
    UNION ALL
    SELECT at, {VALUES} FROM samples_hourly hour
    WHERE server_id = $1 AND at >= $2::timestamptz AND at <= $3::timestamptz AND at < $5::timestamptz
          AND NOT EXISTS (SELECT FROM raw WHERE raw.at < $5::timestamptz
                                            AND date_bin('1 hour', raw.at, 'epoch'::timestamptz) = hour.at)
) taken
GROUP BY bucket ORDER BY bucket
"""

# Late samples are in the raw ones at once, and in their hour once it is rolled up again (postgres/retention.py).
UPTO = "(SELECT upto - interval '7 hours' FROM rollups WHERE name = 'samples')"

# A month of a server's raw samples lies on as many pages as it has samples; its hours lie together.
HOURS = f"""
SELECT date_bin($4::interval, at, 'epoch'::timestamptz) AS bucket, {MEANS}
FROM (
    SELECT at, {VALUES} FROM samples_hourly
    WHERE server_id = $1 AND at >= $2::timestamptz AND at <= $3::timestamptz AND at < {UPTO}
    UNION ALL
    SELECT date_bin('1 hour', at, 'epoch'::timestamptz), {MEANS} FROM samples
    WHERE server_id = $1 AND at >= greatest({UPTO}, $2::timestamptz) AND at <= $3::timestamptz GROUP BY 1
) hours
GROUP BY bucket ORDER BY bucket
"""


@dataclass(frozen=True, slots=True)
class Point:
    """The mean of a metric over the bucket of time that begins at `at`."""

    metric: str
    at: datetime
    value: float


async def series(
    tx: Tx,
    server_id: UUID,
    start: datetime,
    end: datetime,
    *,
    metrics: Collection[str],
    resolution: int,
    raw_since: datetime,
) -> list[Point]:
    """The points of these metrics between two times, both included, oldest first; buckets of `resolution` seconds.

    Where raw samples were dropped, possibly before `raw_since`, hourly means replace them. Buckets without a
    sample have no point.
    """
    rows = await tx.fetch(SERIES, server_id, start, end, timedelta(seconds=resolution), raw_since)
    return _points(rows, metrics)


async def hours(
    tx: Tx, server_id: UUID, start: datetime, end: datetime, *, metrics: Collection[str], resolution: int
) -> list[Point]:
    """`series` for long ranges: from hourly means as far as there are any, in buckets of whole hours."""
    rows = await tx.fetch(HOURS, server_id, start, end, timedelta(seconds=resolution))
    return _points(rows, metrics)


def _points(rows: Iterable[Record], metrics: Collection[str]) -> list[Point]:
    return [
        Point(metric, row["bucket"], row[metric])
        for row in rows
        for metric in METRICS
        if metric in metrics and row[metric] is not None
    ]
