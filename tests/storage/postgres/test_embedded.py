"""The embedded PostgreSQL and its migrations, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.needed import program
from tests.processes import clean_environ
from tests.waiting import poll
from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import embedded, migrate

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its account only under root")

HOLD = """
import pathlib, sys, time
from tocsin.storage.postgres import embedded
server = embedded.start(pathlib.Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(600)
"""

FILLS_UP = """
import asyncio, pathlib, subprocess, sys
import asyncpg
from tocsin.domain.errors import Refused
from tocsin.storage.postgres import embedded

def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "disk", sys.argv[1]], check=True)

async def name():
    connection = await asyncpg.connect(server.dsn)
    print(await connection.fetchval("SELECT current_database()"))
    await connection.close()

mount("size=45M")  # room for what initdb makes, and not for one more database
try:
    embedded.start(pathlib.Path(sys.argv[1]) / "data").stop()
except Refused as refused:
    print("Refused")
mount("remount,size=500M")
server = embedded.start(pathlib.Path(sys.argv[1]) / "data")
asyncio.run(name())
server.stop()
"""

MIGRATE = """
import asyncio, sys
from tocsin.storage.postgres import migrate
print(asyncio.run(migrate.migrate(sys.argv[1])))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.Server]:
    server = embedded.start(tmp_path / "data")
    yield server
    server.stop()


def ask(dsn: str, question: str) -> object:
    async def answer() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(answer())


def test_it_is_durable_private_and_reached_by_socket_alone(server: embedded.Server) -> None:
    assert ask(server.dsn, "SHOW fsync") == "on"
    assert ask(server.dsn, "SHOW listen_addresses") == ""
    assert ask(server.dsn, "SELECT current_user || '/' || current_database()") == "tocsin/tocsin"
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700


@as_root
def test_under_root_it_runs_as_somebody_else_who_need_not_reach_the_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = embedded.start(closed / "data")
    try:
        assert server.pid
        account = psutil.Process(server.pid).uids().real
        assert account != 0
        assert server.cluster.stat().st_uid == account
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert closed.stat().st_uid == 0
        assert ask(server.dsn, "SELECT 1") == 1
    finally:
        server.stop()


def test_a_path_too_long_for_a_socket_is_reached_by_a_shorter_one(tmp_path: Path) -> None:
    server = embedded.start(tmp_path / ("long" * 30))
    try:
        assert ask(server.dsn, "SELECT 1") == 1
        assert embedded.dsn_of(server.data_dir) == server.dsn
    finally:
        server.stop()


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    for expected in (0, 1):
        server = embedded.start(tmp_path)
        assert ask(server.dsn, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == expected
        ask(server.dsn, "CREATE TABLE IF NOT EXISTS kept ()")
        server.stop()


def test_one_folder_has_one_server(server: embedded.Server) -> None:
    with pytest.raises(Unusable, match="in use by another Tocsin"):
        embedded.start(server.data_dir)
    assert server.alive


def test_when_its_parent_is_killed_it_shuts_down_cleanly_and_can_be_started_at_once(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=clean_environ()
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    server = embedded.start(tmp_path)
    try:
        poll(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert "was not properly shut down" not in server.log.read_text()
        assert ask(server.dsn, "SELECT 1") == 1
    finally:
        server.stop()
        parent.wait()
        parent.stdout.close()


def test_after_kill_9_it_starts_again_and_recovers(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    ask(server.dsn, "CREATE TABLE kept AS SELECT 1 AS one")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    poll(lambda: not server.alive)
    server.start()
    assert ask(server.dsn, "SELECT one FROM kept") == 1
    server.stop()


def test_a_stale_pid_file_does_not_matter_even_if_its_number_lives(tmp_path: Path) -> None:
    embedded.start(tmp_path).stop()
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n/nowhere\n1\n5432\n\n\n\nready\n")
    server = embedded.start(tmp_path)
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()


def test_a_first_start_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = embedded.start(tmp_path)
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()
    assert not half.exists()


@as_root
def test_a_first_start_on_a_disk_that_fills_up_works_once_there_is_room(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [program("unshare"), "-m", sys.executable, "-c", FILLS_UP, str(tmp_path)],
        capture_output=True, text=True, env=clean_environ(), timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["Refused", "tocsin"], done.stderr


def test_a_folder_of_an_older_postgresql_is_refused_with_the_way_out(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    server.stop()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(Unusable, match=r"made by PostgreSQL 16.*pg_dump"):
        embedded.start(tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(Unusable, match="no PostgreSQL database"):
        embedded.start(tmp_path)
    assert (tmp_path / "postgres" / "diary.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="TOCSIN_DATA_DIR"):
        embedded.start(tmp_path / "file" / "data")


def test_its_log_holds_no_values_of_statements(server: embedded.Server) -> None:
    with pytest.raises(asyncpg.PostgresError):
        ask(server.dsn, "SELECT 'a secret'::integer")
    assert "a secret" not in server.log.read_text()


# -------------------------------------------------------------------------------------------------------- migrations


def test_four_processes_migrate_at_once_and_each_step_is_applied_once(server: embedded.Server) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, server.dsn], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [run.communicate(timeout=60)[0].strip() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    applied = [each for each in said if each.endswith("]") and not each.endswith("[]")]
    assert len(applied) == 1, said
    assert asyncio.run(migrate.is_current(server.dsn))


async def test_migrations_are_applied_in_the_order_of_their_numbers(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        applied = await connection.fetch("SELECT migration_id FROM _pogo_migration ORDER BY applied, ctid")
    finally:
        await connection.close()
    names = [row["migration_id"] for row in applied]
    assert names == sorted(path.stem for path in migrate.FILES.glob("*.sql"))


def test_a_database_that_is_not_migrated_is_not_current(server: embedded.Server) -> None:
    assert not asyncio.run(migrate.is_current(server.dsn))
    assert asyncio.run(migrate.migrate(server.dsn))
    assert asyncio.run(migrate.migrate(server.dsn)) == []


async def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "INSERT INTO _pogo_migration (migration_hash, migration_id, schema_name, applied) "
        "VALUES ('x', '9999_from_the_future', 'public', now())"
    )
    await connection.close()
    with pytest.raises(Refused, match=r"newer version of Tocsin.*9999"):
        await migrate.migrate(database)


async def test_a_database_that_is_away_is_said_in_one_line() -> None:
    with pytest.raises(Refused, match="cannot be reached"):
        await migrate.migrate("postgresql://tocsin@127.0.0.1:1/tocsin")


async def test_an_address_that_cannot_be_one_is_a_bad_setting() -> None:
    with pytest.raises(Unusable, match="TOCSIN_DATABASE_URL"):
        await migrate.migrate("postgresql://tocsin@host:notaport/tocsin")
