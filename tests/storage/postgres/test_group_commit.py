"""Commits that many callers share: each caller's work is done once, with as much company as there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.group_commit import GroupCommit


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
