"""Everything in a database as a stream: that nothing is left out, and what is restored is what was there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from tests.calls import alarm, new_server, new_webhook, opened
from tests.postgres import Postgres, of_database
from tocsin.actions import backups as actions
from tocsin.actions.base import operator
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.storage.channels import restarts
from tocsin.storage.postgres import backups, database, migrate
from tocsin.storage.postgres.manifest import NOT_KEPT, Manifest

UNLOGGED = {"throttles"}
"""Tables of which nothing survives a crash, either."""

PLAIN_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1
"""


@pytest_asyncio.fixture
async def here(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def empty(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    name = f"empty_stream_{os.getpid()}"
    await postgres.run(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(of_database(postgres.dsn, name))
    await database.prepare(connection)
    yield connection
    await connection.close()
    await postgres.drop(of_database(postgres.dsn, name))


async def dumped(connection: asyncpg.Connection) -> tuple[Manifest, list[bytes]]:
    pieces: list[bytes] = []
    manifest = await backups.dump(
        connection, pieces.append, version="1.2.3", keys=[bytes(32)], done=lambda *_: None
    )
    return manifest, pieces


async def load(connection: asyncpg.Connection, pieces: Iterator[bytes]) -> Manifest:
    async with connection.transaction():
        return await backups.load(connection, pieces, lambda *_: None)


async def test_every_table_is_in_it_but_those_that_mean_nothing_elsewhere(here: asyncpg.Connection) -> None:
    manifest, _ = await dumped(here)
    there = {row["relname"] for row in await here.fetch(PLAIN_TABLES)}
    assert there - {table.name for table in manifest.tables} == UNLOGGED | NOT_KEPT


async def test_what_is_restored_is_what_was_there_odd_values_and_old_partitions_too(
    here: asyncpg.Connection, empty: asyncpg.Connection, app_client: Any
) -> None:
    server = await new_server(app_client)
    await here.execute("UPDATE servers SET hostname = $1", "a\\b\tc\r\n\N{SNOWMAN}")
    await new_webhook(app_client, "http://127.0.0.1:1/", server)
    assert (await opened(app_client, alarm(server, message="x\\.\ny"))).status_code == 201
    bounds = "FOR VALUES FROM ('2020-01-06') TO ('2020-01-13')"
    await here.execute(f"CREATE TABLE samples_20200106 PARTITION OF samples {bounds}")
    number = ids.parse(ids.SERVER, server)
    await here.execute("INSERT INTO samples (server_id, at, cpu_used) VALUES ($1, '2020-01-07', 'NaN')", number)
    await here.execute("UPDATE server_states SET downtime_check_at = 'infinity'")
    await here.execute("SELECT setval('place_changes', 4711)")
    before, pieces = await dumped(here)
    assert await load(empty, iter(pieces)) == before
    after, again = await dumped(empty)
    assert [table.name for table in after.tables] == [table.name for table in before.tables]
    ends = [[content for kind, content in backups.frames(iter(each)) if kind == b"E"] for each in (pieces, again)]
    assert ends[0] == ends[1]
    assert (after.migrations, after.sequences) == (before.migrations, before.sequences)
    assert await empty.fetchval("SELECT cpu_used FROM samples_20200106") != 0


async def test_a_backup_of_an_older_version_is_brought_to_this_one(
    here: asyncpg.Connection, empty: asyncpg.Connection
) -> None:
    await here.execute("DROP TABLE rdap_pauses, rdap_services, domains")
    await here.execute("ALTER TABLE network_monitors DROP COLUMN domain")
    await here.execute("DELETE FROM _pogo_migration WHERE migration_id = '0029_domains'")
    manifest, pieces = await dumped(here)
    assert "0029_domains" not in manifest.migrations
    await load(empty, iter(pieces))
    assert await empty.fetchval("SELECT count(*) FROM _pogo_migration") == len(migrate.known())
    assert await empty.fetchval("SELECT count(*) FROM domains") == 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("migrations", ["0001_the_spine", "9999_from_later"], "newer"), ("keys", "none", "another version")],
)
async def test_a_backup_that_this_version_cannot_restore_is_refused_in_words(
    here: asyncpg.Connection, empty: asyncpg.Connection, field: str, value: Any, words: str
) -> None:
    _, pieces = await dumped(here)
    with pytest.raises(Refused, match=words):
        await load(empty, described(pieces, {field: value}))
    assert not await empty.fetch(PLAIN_TABLES)


def described(pieces: list[bytes], other: dict[str, Any]) -> Iterator[bytes]:
    """A backup that says something else of itself."""
    written = msgspec.json.encode(msgspec.json.decode(pieces[1]) | other)
    return iter([b"M" + len(written).to_bytes(4, "big"), written, *pieces[2:]])


async def test_tables_that_are_not_tocsins_are_left_out_of_a_backup_that_can_be_restored(
    here: asyncpg.Connection, empty: asyncpg.Connection
) -> None:
    await here.execute("""
        CREATE TABLE spatial_ref_sys (id bigserial, note text);
        CREATE SCHEMA other; CREATE TABLE other.samples (at date) PARTITION BY RANGE (at);
        CREATE TABLE "Of Another" PARTITION OF other.samples DEFAULT;
        CREATE TABLE heirs () INHERITS (users); CREATE SEQUENCE "Odd one";
        CREATE TABLE marks (id int); ALTER EXTENSION plpgsql ADD TABLE marks;
        INSERT INTO spatial_ref_sys (note) VALUES ('mine'); SELECT nextval('"Odd one"')
        """)
    manifest, pieces = await dumped(here)
    assert await backups.left_out(here) == ["Of Another", "heirs", "spatial_ref_sys"]
    # many a server has extensions before anything else
    await empty.execute("CREATE TABLE stats (); ALTER EXTENSION plpgsql ADD TABLE stats")
    assert await load(empty, iter(pieces)) == manifest
    assert {row["relname"] for row in await empty.fetch(PLAIN_TABLES)} > {"users", "samples_other"}
    assert not await empty.fetchval("SELECT to_regclass('spatial_ref_sys')")


INJECTED = "; CREATE TABLE injected ()"
PARTITION = {"name": "samples_20200106", "columns": ["at"], "size": 0, "parent": "samples"}
USERS = {"name": "users", "columns": ["id"], "size": 0}


@pytest.mark.parametrize(
    "other",
    [
        {"tables": [PARTITION | {"bound": f"DEFAULT{INJECTED}"}]},
        {"tables": [PARTITION | {"bound": f"FOR VALUES FROM ('2020-01-06') TO ('2020-01-13'){INJECTED}; --')"}]},
        {"tables": [PARTITION | {"bound": "FOR VALUES IN (pg_read_file('/etc/passwd'))"}]},
        {"tables": [PARTITION | {"bound": None}]},
        {"tables": [PARTITION | {"bound": "DEFAULT", "parent": 'samples" DEFAULT; CREATE TABLE "injected'}]},
        {"tables": [PARTITION | {"bound": "DEFAULT", "parent": "users"}]},
        {"tables": [PARTITION | {"bound": "DEFAULT", "name": "a\0b"}]},
        {"tables": [USERS | {"name": "pg_authid"}]},
        {"tables": [USERS | {"name": "_pogo_migration"}]},
        {"tables": [USERS | {"name": f'users"{INJECTED}; --'}]},
        {"tables": [USERS | {"columns": [f'id" FROM users{INJECTED}; --']}]},
        {"tables": [USERS | {"columns": ["nothing"]}]},
        {"tables": [USERS | {"bound": "DEFAULT"}]},
        {"sequences": {f"place_changes'{INJECTED}; --": 1}},
        {"sequences": {"place_changes": 1 << 63}},
        {"sequences": {"place_changes": 0}},
        {"migrations": ["0001_the_spine", f"x'{INJECTED}; --"]},
        {"version": "1.0\x1b[2J"},
        {"keys": []},
        {"keys": ["AAAA"]},
    ],
)  # fmt: skip
async def test_nothing_that_a_backup_says_of_itself_is_carried_out(
    here: asyncpg.Connection, empty: asyncpg.Connection, other: dict[str, Any]
) -> None:
    _, pieces = await dumped(here)
    with pytest.raises(Refused) as refused:
        await load(empty, described(pieces, other))
    assert refused.value.code == "backup_unreadable"
    assert "\x1b" not in refused.value.message
    assert not await empty.fetch(PLAIN_TABLES)


async def test_rows_that_are_not_as_they_were_written_leave_nothing(
    here: asyncpg.Connection, empty: asyncpg.Connection, app_client: Any
) -> None:
    await new_server(app_client, "alpha")
    _, pieces = await dumped(here)
    other = [piece.replace(b"alpha", b"gamma") for piece in pieces]
    for wrong in (other, pieces[:-1], pieces[:-2], [*pieces, b"x"]):
        with pytest.raises(Refused):
            await load(empty, iter(wrong))
        assert not await empty.fetch(PLAIN_TABLES)
    with pytest.raises(Refused):
        backups.check(iter(other))
    assert backups.check(iter(pieces))[1] > 0


async def test_what_lasts_may_have_had_its_restart_after_the_backup_and_gets_no_other(
    here: asyncpg.Connection, app_client: Any, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    restart = {"type": "Integrations::SshServerRestartIntegration",
               "settings": {"ip": "127.0.0.1", "username": "root", "password": "x", "port": 22}}
    uuid = (await app_client.post("/api/v1/integrations", json={"integration": restart})).json()["uuid"]
    await app_client.post(f"/api/v1/servers/{server}/integrations", json={"integration_id": uuid})
    await opened(app_client, alarm(server))
    taken = await here.fetchval("SELECT now()")
    async with database.transaction(pool) as tx:
        assert await actions.restore(tx, operator(), taken) == 1
        await tx.execute("""INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people,
            repeatable, incident_id, event, due_at, created_at)
            SELECT new_id(), project_id, integration_id, integration_type, false, false, incident_id, 'reminder',
                   now(), now() FROM finished""")
        found = await restarts.situation(tx, await tx.fetchval("SELECT id FROM outstanding WHERE event = 'reminder'"))
    assert found is not None
    assert "has had its restart" in (found.objection() or "")


async def test_a_probe_that_knows_more_than_the_backup_is_told_everything_again(pool: asyncpg.Pool) -> None:
    async with database.transaction(pool) as tx:
        known = 1_000_000 + await tx.fetchval("SELECT last_value FROM place_changes")
        await actions.restore(tx, operator(), await tx.fetchval("SELECT now()"))
        assert await tx.fetchval("SELECT nextval('place_changes')") > known
