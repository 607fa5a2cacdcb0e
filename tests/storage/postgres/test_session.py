"""Sessions that are given up: nothing is cancelled on the server, and what is not known is said to be so."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.waiting import until
from tocsin.storage.postgres import connecting
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.database import transaction
from tocsin.storage.postgres.session import OutcomeUnknown

SLOW_COMMIT = """
CREATE TABLE kept (number int);
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON kept DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION slowly();
"""
RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = $1"


async def test_a_statement_past_its_deadline_runs_on_without_us(pool: asyncpg.Pool, database: str) -> None:
    """A cancel request would have ended it there, too."""
    session = await connecting.connect(database)
    with pytest.raises(TimeoutError):
        await session.fetchval("SELECT pg_sleep(20)", timeout=0.1)
    assert session.is_closed()
    assert await pool.fetchval(RUNNING, "SELECT pg_sleep(20)") == 1


async def test_who_is_cancelled_in_a_transaction_ends_its_session_and_is_cancelled(pool: asyncpg.Pool) -> None:
    async def slow() -> None:
        async with transaction(pool) as tx:
            await tx.fetchval("SELECT pg_sleep(20)")

    task = asyncio.create_task(slow())
    await until(lambda: _one(pool, RUNNING, "SELECT pg_sleep(20)"), what="the statement")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with pool.acquire() as tx:
        assert await tx.fetchval("SELECT 1") == 1, "and others are served"


async def test_a_commit_without_an_answer_has_an_unknown_outcome(pool: asyncpg.Pool) -> None:
    await pool.execute(SLOW_COMMIT)

    async def write() -> None:
        async with transaction(pool) as tx:
            await tx.execute("INSERT INTO kept VALUES (1)")

    task = asyncio.create_task(write())
    await until(lambda: _one(pool, RUNNING, "COMMIT;"), what="the commit")
    await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT;'")
    with pytest.raises(OutcomeUnknown):
        await task


async def test_what_is_lost_before_its_commit_is_simply_lost(pool: asyncpg.Pool) -> None:
    async def write() -> None:
        async with transaction(pool) as tx:
            pid = await tx.fetchval("SELECT pg_backend_pid()")
            await pool.execute("SELECT pg_terminate_backend($1)", pid)
            await tx.fetchval("SELECT pg_sleep(20)")

    with pytest.raises(storage.UNAVAILABLE) as lost:
        await write()
    assert not isinstance(lost.value, OutcomeUnknown)


async def test_a_pool_whose_sessions_are_all_in_use_is_not_waited_for_long(database: str) -> None:
    pool = await _pool(database)
    async with pool.acquire():
        with pytest.raises(ConnectionError, match="has no session free"):
            async with pool.acquire():
                pass
    async with pool.acquire() as tx:
        assert await tx.fetchval("SELECT 1") == 1
    await pool.close()


async def _pool(dsn: str) -> storage.Pool:
    return await storage.pool(dsn, size=1, name="tests")


async def _one(pool: asyncpg.Pool, query: str, *arguments: object) -> bool:
    return bool(await pool.fetchval(query, *arguments))
