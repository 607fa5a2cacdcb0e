"""A failed check is tried again at once before it counts, over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from tests.engine.test_monitor_checks import is_now, make, read, watching
from tests.receivers import Answer, Receiver
from tests.waiting import until
from tocsin.checks.second_tries import MAX_SECOND_TRIES

__all__ = ["make", "read"]


async def failed(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM checks WHERE NOT ok"))


async def test_one_bad_answer_between_good_ones_is_no_failed_check(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[..., Any]
) -> None:
    receiver.then(Answer(how="reset"), path="/cut")
    receiver.then(Answer(503), path="/busy")
    for path in ("/cut", "/busy"):
        await make(receiver.url(path), interval=3600.0, confirmations=1)
    async with watching(pool):
        await until(lambda: _all_good(pool, 2))
    assert [len(receiver.to(path)) for path in ("/cut", "/busy")] == [2, 2]
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 0


async def _all_good(pool: asyncpg.Pool, count: int) -> bool:
    assert await failed(pool) == 0
    return bool(await pool.fetchval("SELECT count(*) = $1 FROM checks", count))


async def test_confirmations_count_checks_and_not_tries(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[..., Any]
) -> None:
    receiver.otherwise = Answer(503)
    monitor = await make(receiver.url("/"), interval=0.3, confirmations=2)
    async with watching(pool):
        await is_now(read, monitor, "error")
        assert await pool.fetchval("SELECT count(*) FROM checks WHERE at <= (SELECT created_at FROM incidents)") == 2
        asked, checked = len(receiver.requests), await failed(pool)
        await until(lambda: _more(pool, checked + 3))
    assert asked >= 4, "both checks were tried twice"
    more = await failed(pool) - checked
    assert len(receiver.requests) - asked <= more + 2, "nothing follows from a failure while the incident lasts"


async def _more(pool: asyncpg.Pool, count: int) -> bool:
    return await failed(pool) >= count


async def test_each_try_has_the_whole_timeout(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[..., Any]
) -> None:
    receiver.then(Answer(how="hang"), path="/")
    receiver.then(Answer(after=0.7), path="/")
    await make(receiver.url("/"), interval=3600.0, timeout=2.0, confirmations=1)
    async with watching(pool):
        await until(lambda: _all_good(pool, 1))
    assert len(receiver.requests) == 2


async def test_of_many_that_fail_at_once_only_so_many_are_tried_again(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[..., Any]
) -> None:
    most = MAX_SECOND_TRIES
    receiver.otherwise = Answer(how="hang")
    for number in range(3 * most):
        await make(receiver.url(f"/{number}"), interval=3600.0, timeout=3.0, confirmations=1)
    async with watching(pool):
        await until(lambda: _more(pool, 2 * most), what="those that are not tried again")
        began = asyncio.get_running_loop().time()
        await until(lambda: _more(pool, 3 * most), what="those that are")
        assert asyncio.get_running_loop().time() - began < 30
    assert 3 * most < len(receiver.requests) <= 4 * most + most // 2
