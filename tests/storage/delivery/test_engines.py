"""Which engines live, by the clock of whatever server is the primary now."""

from __future__ import annotations

import asyncpg
import pytest_asyncio

from tests.waiting import until
from tests.world import World, world
from tocsin.storage.channels import telegram
from tocsin.storage.delivery import engines
from tocsin.storage.postgres.secrets import Vault

__all__ = ["world"]


@pytest_asyncio.fixture
async def ahead(pool: asyncpg.Pool) -> int:
    """An engine that died when the primary was one whose clock was five minutes ahead of this one's."""
    await pool.execute("UPDATE timeline SET since = now() - interval '1 minute'")
    return int(
        await pool.fetchval(
            "INSERT INTO engines (seen_at, accepting) VALUES (now() + interval '5 minutes', true) RETURNING number"
        )
    )


async def test_an_engine_that_was_heard_of_later_than_now_is_dead(pool: asyncpg.Pool, ahead: int) -> None:
    async def dead() -> list[int] | None:
        async with pool.acquire() as tx:
            return await engines.dead(tx) or None

    assert await until(dead, what="a dead engine, on a server that has run for some seconds") == [ahead]
    async with pool.acquire() as tx:
        assert await engines.living(tx) == []


async def test_nothing_is_handed_to_an_engine_that_was_heard_of_later_than_now(world: World, ahead: int) -> None:
    await world.attach("http://127.0.0.1:9/")
    await world.open("a")
    assert await world.pool.fetchval("SELECT status FROM outstanding") == "pending"
    await world.pool.execute("UPDATE engines SET seen_at = now() WHERE number = $1", ahead)
    await world.open("b")
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE engine = $1", ahead) == 1, "it is back"


async def test_a_bot_of_an_engine_that_was_heard_of_later_than_now_is_read_by_another(
    pool: asyncpg.Pool, vault: Vault, ahead: int
) -> None:
    await pool.execute(
        "INSERT INTO telegram_bots (bot_id, engine, due_at) VALUES ('7', $1, now() + interval '1 minute')", ahead
    )
    async with pool.acquire() as tx, tx.transaction():
        assert [bot.bot_id for bot in await telegram.claim(tx, vault, ahead + 1, 9, but=[])] == ["7"]
