"""Nobody waits for partitions to be made, however long a backup has the tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from tocsin.storage.postgres import retention

A_MOMENT = 2.0
READ = ("SELECT count(*) FROM incidents", "SELECT count(*) FROM finished", "SELECT count(*) FROM samples")


@pytest_asyncio.fixture
async def saving(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A session that has all tables, as a backup does; partitions of the coming month are missing."""
    for split in (retention.INCIDENTS, retention.FINISHED):
        now = await pool.fetchval("SELECT now()")
        await pool.execute(f"DROP TABLE {split.partition(split.next(split.start_of(now)))}")
    async with pool.acquire() as backup:
        transaction = backup.transaction()
        await transaction.start()
        for statement in READ:
            await backup.execute(statement)
        yield backup
        await transaction.rollback()


async def test_nobody_waits_while_a_partition_is_due_and_a_backup_has_the_tables(
    saving: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    async with pool.acquire() as engine:
        making = asyncio.create_task(retention.ensure_partitions(engine))
        longest = 0.0
        while not making.done():
            began = time.monotonic()
            async with pool.acquire() as reader:
                for statement in READ:
                    await reader.fetchval(statement)
            longest = max(longest, time.monotonic() - began)
        await making
        assert longest < A_MOMENT
        await saving.execute("ROLLBACK")
        await retention.ensure_partitions(engine)
        await saving.execute("BEGIN")
    for split in (retention.INCIDENTS, retention.FINISHED):
        there = {row["relname"] for row in await pool.fetch(retention.PARTITIONS, split.table)}
        now = await pool.fetchval("SELECT now()")
        assert split.partition(split.next(split.start_of(now))) in there, "they are made afterwards"
