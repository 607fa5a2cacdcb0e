"""Commits that many callers share: each caller's work is done once, with as much company as there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import asyncpg
import pytest

from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.database import ASKING, Asking, NotSent, Pool, Tx
from tocsin.storage.postgres.group_commit import GroupCommit
from tocsin.storage.postgres.session import OutcomeUnknown


class Commits:
    """What was committed together. `-1` cannot be committed."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    async def __call__(self, tx: Tx, items: Sequence[int]) -> list[int]:
        await tx.execute("SELECT")
        if -1 in items:
            raise ValueError("minus one")
        self.groups.append(list(items))
        return [item * 10 for item in items]


async def test_who_calls_meanwhile_shares_the_next_commit_and_gets_their_own_result(pool: asyncpg.Pool) -> None:
    commits = Commits()
    group = GroupCommit(pool, commits)
    assert await asyncio.gather(*map(group, range(50))) == [number * 10 for number in range(50)]
    assert [len(each) for each in commits.groups] == [50]


async def test_callers_who_call_again_after_each_answer_stay_together(pool: asyncpg.Pool) -> None:
    commits = Commits()
    group = GroupCommit(pool, commits)

    async def again_and_again(number: int) -> None:
        for _ in range(10):
            await group(number)

    await asyncio.gather(*map(again_and_again, range(20)))
    assert sorted(number for each in commits.groups for number in each) == sorted([*range(20)] * 10)
    assert len(commits.groups) == 10


async def test_no_commit_is_heavier_than_the_limit_but_for_one_that_is_so_alone(pool: asyncpg.Pool) -> None:
    commits = Commits()
    group = GroupCommit(pool, commits, limit=100, weigh=lambda item: item)
    await asyncio.gather(*map(group, [60, 30, 30, 70, 500, 1, 2]))
    assert commits.groups == [[60, 30], [30, 70], [500], [1, 2]]


async def test_what_cannot_be_committed_fails_its_own_caller_and_no_other(pool: asyncpg.Pool) -> None:
    commits = Commits()
    group = GroupCommit(pool, commits)
    results = await asyncio.gather(*map(group, [1, -1, 2]), return_exceptions=True)
    assert [results[0], results[2]] == [10, 20]
    assert isinstance(results[1], ValueError)


async def test_those_whose_commit_gave_way_to_another_transaction_are_committed_one_by_one(pool: asyncpg.Pool) -> None:
    tried: list[list[int]] = []

    async def once_in_the_way(tx: Tx, items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        if len(items) > 1:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return [item * 10 for item in items]

    assert await asyncio.gather(*map(GroupCommit(pool, once_in_the_way), [1, 2])) == [10, 20]
    assert tried == [[1, 2], [1], [2]]


class Slow:
    """Takes as long as the item says, but for the first one of a negative number, which hangs until `let_go`."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.let_go = asyncio.Event()

    async def __call__(self, tx: Tx, items: Sequence[int]) -> list[int]:
        await tx.execute("SELECT")
        if min(items) < 0:
            await self.let_go.wait()
        self.done += items
        return [item * 10 for item in items]


async def test_nobody_waits_for_long_behind_a_commit_that_hangs_or_for_it(pool: asyncpg.Pool) -> None:
    slow = Slow()
    group = GroupCommit(pool, slow, limit=1, patience=1.0)
    began = time.monotonic()
    try:
        hung = asyncio.create_task(group(-1))
        await asyncio.sleep(0.6)
        behind = [asyncio.create_task(group(number)) for number in range(3)]
        with pytest.raises(OutcomeUnknown):
            await hung
        assert await asyncio.gather(*behind) == [0, 10, 20]
        assert time.monotonic() - began < 3
    finally:
        slow.let_go.set()
    assert await group(4) == 40


async def test_what_could_not_be_sent_in_time_is_refused_and_never_carried_out(database: str) -> None:
    pool = await _pool(database, size=1)
    slow = Slow()
    group = GroupCommit(pool, slow, limit=1, patience=1.0)
    async with pool.acquire():  # the only session
        results = await asyncio.gather(*map(group, range(5)), return_exceptions=True)
    assert all(isinstance(result, NotSent) for result in results), results
    assert await group(5) == 50
    assert slow.done == [5]
    await pool.close()


async def test_a_call_that_had_to_wait_and_whose_client_has_gone_is_not_carried_out(database: str) -> None:
    pool = await _pool(database, size=1)
    slow = Slow()
    group = GroupCommit(pool, slow, patience=2.0)

    async def call(number: int, client: Somebody) -> int:
        ASKING.set(Asking(client))
        return await group(number)

    one, other = Somebody(), Somebody()
    async with pool.acquire():
        calls = [asyncio.create_task(call(1, one)), asyncio.create_task(call(2, other))]
        await asyncio.sleep(0.7)
        other.disconnected = True
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert first == 10
    assert isinstance(second, NotSent)
    assert slow.done == [1]
    gone = Somebody()
    gone.disconnected = True
    assert await call(3, gone) == 30, "one that only sent it and went, while nobody had to wait, is served"
    await pool.close()


async def test_nobody_is_held_to_be_gone_or_out_of_time_because_another_is(database: str) -> None:
    pool = await _pool(database, size=1)
    slow = Slow()
    group = GroupCommit(pool, slow, patience=2.0)

    async def call(number: int, asking: Asking) -> int:
        ASKING.set(asking)
        return await group(number)

    gone, other = Asking(Somebody()), Asking(Somebody())
    gone.waited = storage.WAIT  # for a session that it had before
    async with pool.acquire():
        first = asyncio.create_task(call(1, gone))
        await asyncio.sleep(0.1)
        gone.client.disconnected = True
        second = asyncio.create_task(call(2, other))
        await asyncio.sleep(0.7)
    with pytest.raises(NotSent, match="the client has gone"):
        await first
    assert await second == 20
    assert slow.done == [2]
    await pool.close()


async def test_those_who_wait_for_their_own_turn_after_a_failure_of_all_are_told_that_nothing_was_sent(
    pool: asyncpg.Pool,
) -> None:
    tried: list[list[int]] = []

    async def slowly(tx: Tx, items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        if len(items) > 1:
            raise ValueError("one of them")
        await tx.execute("SELECT pg_sleep(0.4)")
        return [item * 10 for item in items]

    group = GroupCommit(pool, slowly, patience=1.5)
    results = await asyncio.gather(*map(group, range(6)), return_exceptions=True)
    sent = [number for items in tried[1:] for number in items]
    assert all(isinstance(results[number], NotSent) for number in range(6) if number not in sent), results
    assert sent != [*range(6)], "there was no time for all"
    assert results[0] == 0
    assert await group(7) == 70, "and others go on"


class Somebody:
    disconnected = False


async def _pool(dsn: str, size: int) -> Pool:
    return await storage.pool(dsn, size=size, name="tests")
