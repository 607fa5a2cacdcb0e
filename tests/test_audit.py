"""Who changed what and when."""

from __future__ import annotations

from typing import Any

import asyncpg

from tocsin.storage import accounts, audit, retention
from tocsin.storage.secrets import Vault


async def test_the_record_names_the_user_by_address_and_the_project_s_own_token_as_such(
    pool: asyncpg.Pool, project: Any
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, "ann@example.com")
        await audit.note(tx, project.id, audit.API_TOKEN, "made integration", "alerts@example.com")
        await audit.note(tx, project.id, user.id, "changed integration", "alerts", {"fields": ["email"]})
        found, total = await audit.list_(tx, project.id, limit=10)
    assert [(entry.who, entry.action, entry.subject, entry.details) for entry in found] == [
        ("ann@example.com", "changed integration", "alerts", {"fields": ["email"]}),
        ("API token", "made integration", "alerts@example.com", {}),
    ]
    assert total == 2


async def test_a_project_reads_nothing_of_another_s_record(pool: asyncpg.Pool, project: Any, vault: Vault) -> None:
    async with pool.acquire() as tx, tx.transaction():
        other = await accounts.create_project(tx, vault, "Other", "free")
        await audit.note(tx, other.id, audit.API_TOKEN, "made integration", "theirs")
        await audit.note(tx, None, audit.OPERATOR, "rotated secrets", "installation")
        assert await audit.list_(tx, project.id, limit=10) == ([], 0)
        assert [entry.subject for entry in (await audit.list_(tx, None, limit=10))[0]] == ["installation"]


async def test_a_change_that_is_undone_leaves_no_note(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx:
        undone = tx.transaction()
        await undone.start()
        await audit.note(tx, project.id, audit.API_TOKEN, "made integration", "never")
        await undone.rollback()
        assert (await audit.list_(tx, project.id, limit=10))[1] == 0


async def test_the_record_is_kept_as_long_as_incidents_are(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx:
        for subject, age in (("old", 401), ("recent", 399)):
            await audit.note(tx, project.id, audit.API_TOKEN, "made integration", subject)
            await tx.execute(
                "UPDATE audit SET at = now() - $2 * interval '1 day' WHERE subject = $1", subject, float(age)
            )
    await retention.drop_old(pool, raw_days=30, days=400)
    async with pool.acquire() as tx:
        assert [entry.subject for entry in (await audit.list_(tx, project.id, limit=10))[0]] == ["recent"]
