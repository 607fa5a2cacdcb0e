"""Retention of history: partitions created ahead, raw rows rolled up into hours, old partitions dropped.

Tables by time are split by week or month; incidents and finished deliveries by month of their key (domain/ids.py: a key
begins with the time). Each step is small and in a transaction of its own, so that no request notices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from tocsin.domain import percentiles
from tocsin.domain.servers import METRICS
from tocsin.storage.postgres.database import Tx

HOURLY_DAYS = 366
"""Days for which hourly values are kept."""
AHEAD = timedelta(days=45)
"""How far ahead partitions are created: longer than a clock or an idle installation is likely to jump."""
BATCH = 5_000
NOT_LONG = "SET LOCAL lock_timeout = '300ms'"
"""For locks that nothing passes, not even what only reads: behind whoever waits for one, everybody waits. A backup has
all tables for as long as it takes.
"""


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A partitioned table: split by `week` or `month`, on a time or on a key."""

    table: str
    by: str
    keyed: bool = False

    def start_of(self, moment: datetime) -> datetime:
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return day - timedelta(days=day.weekday()) if self.by == "week" else day.replace(day=1)

    def next(self, start: datetime) -> datetime:
        return self.start_of(start + timedelta(days=7 if self.by == "week" else 32))

    def bound(self, moment: datetime) -> str:
        return f"'{first_key(moment) if self.keyed else moment.isoformat()}'"

    def partition(self, start: datetime) -> str:
        return f"{self.table}_{start:%Y%m%d}"


SAMPLES, CHECKS = PartitionedTable("samples", "week"), PartitionedTable("checks", "week")
PINGS = PartitionedTable("pings", "week")
SAMPLES_HOURLY, CHECKS_HOURLY = PartitionedTable("samples_hourly", "month"), PartitionedTable("checks_hourly", "month")
INCIDENTS, FINISHED = (
    PartitionedTable("incidents", "month", keyed=True),
    PartitionedTable("finished", "month", keyed=True),
)
PARTITIONED = (SAMPLES, CHECKS, PINGS, SAMPLES_HOURLY, CHECKS_HOURLY, INCIDENTS, FINISHED)

PARTITIONS = """
SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
WHERE h.inhparent = $1::text::regclass ORDER BY c.relname
"""

VALUES = ", ".join(METRICS)
ROLL_UP_SAMPLES = f"""
INSERT INTO samples_hourly (server_id, at, {VALUES})
SELECT server_id, date_bin('1 hour', at, 'epoch'), {", ".join(f"avg({name})" for name in METRICS)}
FROM samples WHERE at >= $1 AND at < $2 GROUP BY 1, 2
ON CONFLICT (server_id, at) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in METRICS)}
"""

BUCKET = (
    f"ceil(ln(greatest(response_ms, {percentiles.LEAST_MS})) / ln({percentiles.GROWTH!r}::float8))::smallint"
)
"""SQL: `percentiles.bucket_of` of a check's response time."""

ROLL_UP_CHECKS = f"""
INSERT INTO checks_hourly (monitor_id, at, total, ok, response_ms, buckets, bucket_counts)
SELECT monitor_id, at, sum(total), sum(ok), sum(ms) / nullif(sum(timed), 0),
       coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{{}}'),
       coalesce(array_agg(timed ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{{}}')
FROM (
    SELECT monitor_id, date_bin('1 hour', at, 'epoch') AS at, CASE WHEN ok THEN {BUCKET} END AS bucket,
           count(*) FILTER (WHERE NOT unreachable) AS total, count(*) FILTER (WHERE ok) AS ok,
           sum(response_ms) FILTER (WHERE ok) AS ms, count(response_ms) FILTER (WHERE ok) AS timed
    FROM checks WHERE at >= $1 AND at < $2 GROUP BY 1, 2, 3
) counted
GROUP BY 1, 2
ON CONFLICT (monitor_id, at) DO UPDATE
SET total = excluded.total, ok = excluded.ok, response_ms = excluded.response_ms,
    buckets = excluded.buckets, bucket_counts = excluded.bucket_counts
"""

ROLLED_UP_TO = """
INSERT INTO rollups (name, upto)
VALUES ($1, date_bin('1 hour', coalesce(
    (SELECT min(at) FROM {table} WHERE at >= now() - interval '{days} days'), now()), 'epoch'))
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING upto
"""

# Samples may arrive six hours late (the agent keeps 360), and failed checks are explained minutes later by a parent; an
# hour is rolled up again until it can no longer change.
STILL_CHANGING = {"samples": timedelta(hours=7), "checks": timedelta(hours=1)}
ROLL_UP = {"samples": ROLL_UP_SAMPLES, "checks": ROLL_UP_CHECKS}

EXPIRED_ROWS = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {old} LIMIT {limit}))
"""


STILL_ONGOING = "SELECT EXISTS (SELECT FROM {table} WHERE closed_at IS NULL)"


def first_key(moment: datetime) -> UUID:
    """The smallest key that could be created at `moment`."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


async def ensure_partitions(connection: asyncpg.Connection) -> None:
    """Create the partitions that the coming weeks need, and those of the recent past.

    Each table is a transaction of its own, so that none is kept while another is waited for. Those of a table that
    somebody else has are left for the next time: what would be in them is in its default partition until then.
    """
    now = await connection.fetchval("SELECT now()")
    for split in PARTITIONED:
        there = {row["relname"] for row in await connection.fetch(PARTITIONS, split.table)}
        if missing := [start for start in _needed(split, now) if split.partition(start) not in there]:
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                async with connection.transaction():
                    await connection.execute(NOT_LONG)
                    for start in missing:
                        await _make(connection, split, start)


def _needed(split: PartitionedTable, now: datetime) -> Iterator[datetime]:
    start = split.start_of(now - timedelta(days=8))
    while start < now + AHEAD:
        yield start
        start = split.next(start)


async def _make(tx: Tx, split: PartitionedTable, start: datetime) -> None:
    bounds = f"FROM ({split.bound(start)}) TO ({split.bound(split.next(start))})"
    try:
        async with tx.transaction():
            await tx.execute(f"CREATE TABLE {split.partition(start)} PARTITION OF {split.table} FOR VALUES {bounds}")
    except asyncpg.CheckViolationError:
        # A clock that was wrong for a while left rows for that time in the default partition. They are read from there.
        return


async def roll_up(pool: asyncpg.Pool) -> None:
    """Roll up to the last full hour, one hour per transaction."""
    for name, changing in STILL_CHANGING.items():
        while True:
            async with pool.acquire() as tx, tx.transaction():
                upto = await tx.fetchval(ROLLED_UP_TO.format(table=name, days=HOURLY_DAYS), name)
                this_hour = await tx.fetchval("SELECT date_bin('1 hour', now(), 'epoch')")
                if upto >= this_hour:
                    break
                await tx.execute(ROLL_UP[name], upto - changing, upto + timedelta(hours=1))
                await tx.execute("UPDATE rollups SET upto = $2 WHERE name = $1", name, upto + timedelta(hours=1))


async def drop_old(pool: asyncpg.Pool, *, raw_days: int, days: int) -> None:
    """Drop what is older than its retention, a partition at a time."""
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        for split, keep in (
            (SAMPLES, raw_days), (CHECKS, raw_days), (PINGS, raw_days), (SAMPLES_HOURLY, HOURLY_DAYS),
            (CHECKS_HOURLY, HOURLY_DAYS), (FINISHED, days), (INCIDENTS, days),
        ):  # fmt: skip
            await _drop_before(connection, split, now - timedelta(days=keep))
        for table in ("audit", "acknowledgements"):
            await _delete(connection, table, f"at < '{(now - timedelta(days=days)).isoformat()}'")
        await _delete(connection, "outages", f"ended < '{(now - timedelta(days=days)).isoformat()}'")


async def _drop_before(connection: asyncpg.Connection, split: PartitionedTable, cutoff: datetime) -> None:
    old = f"{'id' if split.keyed else 'at'} < {split.bound(cutoff)}"
    for row in await connection.fetch(PARTITIONS, split.table):
        name, suffix = row["relname"], row["relname"].rpartition("_")[2]
        ended = f"{old} AND closed_at IS NOT NULL" if split is INCIDENTS else old
        if suffix == "other":
            await _delete(connection, name, ended)
            continue
        start = datetime.strptime(suffix, "%Y%m%d").replace(tzinfo=UTC)
        if split.next(start) > cutoff:
            continue
        if split is INCIDENTS and await connection.fetchval(STILL_ONGOING.format(table=name)):
            # An incident is ongoing since then: delete only the resolved ones.
            await _delete(connection, name, ended)
            continue
        # Rather retry in an hour than have requests queue behind the lock that this waits for. What drops it locks its
        # parent first: nobody may be kept from that while a backup reads this one.
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE NOWAIT")
            async with connection.transaction():
                await connection.execute(NOT_LONG)
                await connection.execute(f"DROP TABLE {name}")


async def _delete(connection: asyncpg.Connection, table: str, old: str) -> None:
    statement = EXPIRED_ROWS.format(table=table, old=old, limit=BATCH)
    while not (await connection.execute(statement)).endswith(" 0"):
        pass
