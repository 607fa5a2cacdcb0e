"""Databases of older versions, with people's rows in them, brought to this one."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.postgres import Postgres, of_database
from tests.processes import clean_environ
from tests.service import KEY
from tests.waiting import until
from tocsin.storage import audit
from tocsin.storage.postgres import migrate, retention

BEFORE_ACCOUNTS = "0010"
TABLES = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"


@pytest.fixture
async def old(postgres: Postgres, tmp_path: Path) -> AsyncIterator[str]:
    """A database as it was before 0011."""
    name = "older_version"
    await postgres.run(f"CREATE DATABASE {name}")
    dsn = of_database(postgres.dsn, name)
    steps = tmp_path / "steps"
    steps.mkdir()
    for path in migrate.FILES.glob("*.sql"):
        if path.name[:4] <= BEFORE_ACCOUNTS:
            shutil.copy(path, steps)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(migrate, "FILES", steps)
        older.setattr(retention, "PARTITIONED", tuple(each for each in retention.PARTITIONED if each.table != "pings"))
        assert (await migrate.migrate(dsn))[-1][:4] == BEFORE_ACCOUNTS
    yield dsn
    await postgres.drop(dsn)


@pytest.fixture
async def turkish(old: str) -> str:
    """One in which I and i are the same letter for nobody, as under `tr_TR`: not every PostgreSQL knows that locale."""
    await run(old, "DROP INDEX users_by_email")
    await run(old, "CREATE UNIQUE INDEX users_by_email ON users (email)")
    await run(old, "DROP INDEX invitations_by_address")
    await run(old, "CREATE UNIQUE INDEX invitations_by_address ON invitations (project_id, email)")
    return old


async def run(dsn: str, statement: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


async def user(dsn: str, email: str, *, verified: bool = False, operator: bool = False) -> UUID:
    statement = """
        INSERT INTO users (email, password_hash, email_verified_at, operator)
        VALUES ($1, 'x', CASE WHEN $2 THEN now() END, $3) RETURNING id
    """
    return (await run(dsn, statement, email, verified, operator))[0]  # type: ignore[no-any-return]


async def project(dsn: str, name: str, owner: UUID, who: str | None) -> None:
    statement = """
        INSERT INTO projects (name, plan, owner_id, token_hash, token_sealed) VALUES ($1, 'free', $2, $3, '')
        RETURNING id
    """
    [made] = await run(dsn, statement, name, owner, name.encode())
    statement = "INSERT INTO audit (project_id, who, action, subject) VALUES ($1, $2, $3, $4)"
    await run(dsn, statement, made, "ann@example.com", "renamed project", name)
    if who is not None:
        await run(dsn, statement, made, who, "made project", name)


async def test_who_made_a_project_that_is_there_is_taken_from_the_record_of_changes(old: str) -> None:
    ann = await user(old, "ann@example.com", verified=True)
    bob = await user(old, "bob@example.com")
    root = await user(old, "root@example.com", operator=True)
    await project(old, "of somebody verified", ann, "ann@example.com")
    await project(old, "of somebody unverified", bob, "bob@example.com")
    await project(old, "by command for somebody who had registered", bob, audit.OPERATOR)
    await project(old, "of the operator", root, "root@example.com")
    await project(old, "of which nothing is known", bob, None)
    assert "0011_accounts" in await migrate.migrate(old)
    makers = await run(old, "SELECT (name, made_by) FROM projects")
    assert dict(makers) == {
        "of somebody verified": ann,
        "of somebody unverified": bob,
        "by command for somebody who had registered": None,
        "of the operator": None,
        "of which nothing is known": None,
    }


async def test_addresses_that_are_one_from_now_on_stop_the_upgrade_and_are_named_with_what_to_do(
    turkish: str, tmp_path: Path
) -> None:
    first, second = await user(turkish, "INFO@example.com"), await user(turkish, "info@example.com")
    await user(turkish, "other@example.com")
    environ = {**clean_environ(), "TOCSIN_DATABASE_URL": turkish, "TOCSIN_SECRET_KEYS": KEY}
    command = [sys.executable, "-m", "tocsin", "migrate", "--data-dir", str(tmp_path)]
    ended = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True, timeout=60)
    said = ended.stderr.strip().splitlines()[-1]
    assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
    for part in (f"INFO@example.com (id {first})", f"info@example.com (id {second})", "UPDATE users SET email"):
        assert part in said
    assert "other@example.com" not in said
    await run(turkish, "UPDATE users SET email = 'sales@example.com' WHERE id = $1", second)
    assert "0011_accounts" in await migrate.migrate(turkish)


async def test_of_invitations_that_are_one_from_now_on_the_newest_stays(turkish: str) -> None:
    await project(turkish, "Shop", await user(turkish, "ann@example.com"), None)
    statement = """
        INSERT INTO invitations (project_id, email, role, created_at, expires_at)
        SELECT id, $1, 'reader', now() + $2::int * interval '1 s', now() FROM projects
    """
    for second, email in enumerate(("Info@example.com", "INFO@example.com", "info@example.com")):
        await run(turkish, statement, email, second)
    await migrate.migrate(turkish)
    assert await run(turkish, "SELECT email FROM invitations") == ["info@example.com"]


async def test_after_the_upgrade_addresses_are_held_once_by_one_index(old: str) -> None:
    await migrate.migrate(old)
    statement = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%lower(%email%' ORDER BY 1"
    assert await run(old, statement) == ["invitations_to_address", "users_by_address"]


async def test_a_step_and_a_process_that_wait_for_each_other_do_not_stop_the_upgrade(old: str) -> None:
    ann = await user(old, "ann@example.com")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"

    async def waits_for(table: str) -> bool:
        return bool((await run(old, waiting, table))[0])

    reader, writer = await asyncpg.connect(old), await asyncpg.connect(old)
    try:
        await writer.execute("SET deadlock_timeout = '1ms'")  # it has looked before there is anything to be seen
        reading, writing = reader.transaction(), writer.transaction()
        await reading.start()
        await reader.execute("LOCK projects IN ACCESS SHARE MODE")
        upgrade = asyncio.create_task(migrate.migrate(old))
        await until(lambda: waits_for("projects"), what="the upgrade at work")
        await writing.start()
        await writer.execute("SELECT FROM users FOR UPDATE")
        change = asyncio.create_task(writer.execute("UPDATE users SET name = 'Ann' WHERE id = $1", ann))
        await until(lambda: waits_for("users"), what="a writer that waits for the upgrade")
        await reading.rollback()
        await asyncio.wait_for(change, 60)
        await writing.commit()
        assert "0011_accounts" in await asyncio.wait_for(upgrade, 60)
    finally:
        await reader.close()
        await writer.close()
    assert await run(old, "SELECT name FROM users") == ["Ann"]


async def test_nobody_waits_while_a_migration_waits_for_a_backup(old: str) -> None:
    backup, reader = await asyncpg.connect(old), await asyncpg.connect(old)
    try:
        async with backup.transaction():
            tables = [row["relname"] for row in await backup.fetch(TABLES)]
            await backup.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE")
            migrating = asyncio.create_task(migrate.migrate(old))
            began, longest = time.monotonic(), 0.0
            while time.monotonic() < began + 4:
                at = time.monotonic()
                for table in tables:
                    await reader.fetchval(f"SELECT count(*) FROM {table}")
                longest = max(longest, time.monotonic() - at)
            assert not migrating.done()
            assert longest < 2.0
        assert (await migrating)[-1] == migrate.known()[-1]
    finally:
        await backup.close()
        await reader.close()
