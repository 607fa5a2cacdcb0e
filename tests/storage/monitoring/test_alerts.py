"""Alerts of sources in the database: what ends when nobody mentions it any more, and what never ends by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tocsin.domain.alerts import Alert
from tocsin.storage.delivery import incidents
from tocsin.storage.monitoring import alerts, downtime, sources
from tocsin.storage.monitoring.alerts import NO_LONGER, Became, Taken
from tocsin.storage.monitoring.sources import Source, SourceConfig
from tocsin.storage.postgres.secrets import Vault

URL = "https://tocsin.example.com"


@pytest_asyncio.fixture
async def source(pool: asyncpg.Pool, vault: Vault, project: Any) -> AsyncIterator[Source]:
    """One that ends what is not mentioned for an hour. The service has been listening for a day."""
    async with pool.acquire() as tx, tx.transaction():
        key = await sources.create(tx, vault, project.id, SourceConfig("Cluster", "alertmanager", {}, None, 3600))
        made = await sources.one(tx, vault, project.id, key)
    await listen(pool, timedelta(days=1))
    assert made
    yield made


async def listen(pool: asyncpg.Pool, since: timedelta) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await downtime.record_api_alive(tx)
        await tx.execute("UPDATE api_heartbeat SET since = now() - $1::interval", since)


async def say(pool: asyncpg.Pool, source: Source, *said: Alert) -> Became:
    async with pool.acquire() as tx, tx.transaction():
        [became] = await alerts.take(tx, [Taken(source.id, source.project_id, said)], public_url=URL)
    return became


async def end(pool: asyncpg.Pool, limit: int = 100, back_for: float | None = None) -> int:
    async with pool.acquire() as tx, tx.transaction():
        return await alerts.end_over(tx, limit, back_for=back_for)


async def pass_time(pool: asyncpg.Pool, seconds: float) -> None:
    """For the alerts."""
    await pool.execute("UPDATE alerts SET ends_at = ends_at - make_interval(secs => $1)", seconds)


async def ended(pool: asyncpg.Pool, source: Source) -> dict[str, str]:
    rows = await pool.fetch("SELECT dedup_key, resolved_by FROM incidents WHERE closed_at IS NOT NULL")
    return {row["dedup_key"]: row["resolved_by"] for row in rows}


def firing(key: str = "a", seconds: float | None = None, **more: Any) -> Alert:
    ends = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    return Alert(key, "firing", "DiskFull", "full", ends_at=ends, **more)


async def test_an_alert_ends_at_its_end_unless_it_is_mentioned_again(pool: asyncpg.Pool, source: Source) -> None:
    assert (await say(pool, source, firing("a", 240), firing("b", 240))).opened == 2
    assert await end(pool) == 0
    await pass_time(pool, 200)
    assert (await say(pool, source, firing("b", 240))).ongoing == 1
    await pass_time(pool, 50)
    assert await end(pool) == 1
    assert await ended(pool, source) == {"a": NO_LONGER}
    assert await pool.fetchval("SELECT array_agg(dedup_key) FROM alerts") == ["b"]


async def test_what_a_webhook_does_not_mention_ends_after_the_time_that_is_set_and_else_never(
    pool: asyncpg.Pool, source: Source
) -> None:
    await say(pool, source, firing("a"))
    await pass_time(pool, 3599)
    assert await end(pool) == 0
    await pass_time(pool, 1)
    assert await end(pool) == 1
    await pool.execute("UPDATE sources SET stale_after = NULL")
    await say(pool, source, firing("b"))
    await pass_time(pool, 10**9)
    assert await end(pool) == 0
    assert await ended(pool, source) == {"a": NO_LONGER}


async def test_after_we_were_away_nothing_ends_before_we_have_listened_for_four_minutes(
    pool: asyncpg.Pool, source: Source
) -> None:
    await say(pool, source, firing("a", 240))
    await pass_time(pool, 10_000)
    await listen(pool, timedelta(seconds=239))
    assert await end(pool) == 0
    await listen(pool, timedelta(seconds=241))
    assert await end(pool, back_for=60.0) == 0  # this machine had no way out until then
    await pool.execute("UPDATE api_heartbeat SET seen_at = now() - interval '11 s'")
    assert await end(pool) == 0  # nobody listens
    await listen(pool, timedelta(seconds=241))
    assert await end(pool) == 1


async def test_no_more_end_at_once_than_are_asked_for(pool: asyncpg.Pool, source: Source) -> None:
    await say(pool, source, *[firing(str(number), 240) for number in range(30)])
    await pass_time(pool, 241)
    assert [await end(pool, 20), await end(pool, 20), await end(pool, 20)] == [20, 10, 0]
    assert await pool.fetchval("SELECT count(*) FROM ongoing") == 0


async def test_what_was_resolved_here_is_forgotten_at_its_end_or_once_it_is_history(
    pool: asyncpg.Pool, source: Source
) -> None:
    await say(pool, source, firing("a", 240), firing("b"))
    async with pool.acquire() as tx, tx.transaction():
        await incidents.forget_resource(tx, source.project_id, source.id)
    await pool.execute("UPDATE alerts SET ends_at = NULL WHERE dedup_key = 'b'")
    await pass_time(pool, 241)
    assert await end(pool) == 1
    async with pool.acquire() as tx, tx.transaction():
        await alerts.forget_old(tx)
        assert await tx.fetchval("SELECT count(*) FROM alerts") == 1
        await tx.execute("DELETE FROM incidents")
        await alerts.forget_old(tx)
        assert await tx.fetchval("SELECT count(*) FROM alerts") == 0


async def test_an_alert_of_a_source_that_was_deleted_meanwhile_is_not_taken(
    pool: asyncpg.Pool, vault: Vault, source: Source
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        assert await sources.delete(tx, vault, source.project_id, source.id)
    assert (await say(pool, source, firing())).gone


async def test_what_one_source_says_twice_in_one_commit_is_taken_in_order(pool: asyncpg.Pool, source: Source) -> None:
    over = Alert("a", "resolved", "DiskFull", "")
    said = (firing(), over, firing(anew=True), firing(), over)
    given = [Taken(source.id, source.project_id, [each]) for each in said]
    async with pool.acquire() as tx, tx.transaction():
        became = await alerts.take(tx, given, public_url=URL)
    assert [(each.opened, each.resolved, each.nothing) for each in became] == [
        (1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0)
    ]  # fmt: skip
    assert await pool.fetchval("SELECT count(*) FROM ongoing") == 0


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        (alerts.OVER, "100", "alerts_ending"),
        (alerts.HOLD, "'{}'", "sources_pkey"),
        (alerts.KNOWN, "'{}', '{}'", "alerts_pkey"),
        (alerts.HOLD_ONGOING, "'{}', '{}', '{}'", "ongoing_pkey"),
        (alerts.RETELL, "'{}', '{}', '{}', '{}', '{}', '{}'", "ongoing_pkey"),
        (alerts.FORGET, "'{}', '{}'", "alerts_pkey"),
        (sources.OF_KEY, "'{}'", "sources_key_hash_key"),
    ],
    ids=["over", "hold", "known", "hold ongoing", "retell", "forget", "of key"],
)
async def test_what_is_asked_for_each_body_is_looked_up_by_index(
    pool: asyncpg.Pool, statement: str, arguments: str, index: str
) -> None:
    async with pool.acquire() as tx:
        await tx.execute(f"PREPARE asked AS {statement}")
        plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN EXECUTE asked ({arguments})"))
        await tx.execute("DEALLOCATE asked")
    assert index in plan
    assert "Seq Scan" not in plan


def test_keys_are_thirty_two_letters_and_digits() -> None:
    keys = {sources.new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 32 and key.isascii() and key.isalnum() for key in keys)
