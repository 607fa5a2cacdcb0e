"""Data folders of every released version start with this one, and one of a newer version is refused.

`tests/upgrades/VERSION.sql.xz` is what a small installation of that version had in its database (pg_dump --inserts),
sealed with the tests' key: a server, a monitor, two webhooks, two incidents that last and one that has ended; of the
webhooks, one had been told everything, and the other nothing.
"""

from __future__ import annotations

import asyncio
import lzma
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.installation import Installation
from tests.processes import clean_environ
from tests.receivers import Receiver
from tests.service import KEY
from tocsin.storage.postgres import embedded

RELEASES = sorted(Path(__file__).parent.parent.joinpath("upgrades").glob("*.sql.xz"))

MOVE = """
UPDATE integrations SET settings = jsonb_set(settings, '{webhook_url}', to_jsonb($1 || '/waiting'))
WHERE settings->>'webhook_url' LIKE '%/waiting'
"""
NOT_NOW = "UPDATE monitor_states SET due_at = now() + interval '1 day'"
"""Its monitor was due on the day when it was made, and its site is not there."""
FROM_LATER = """
CREATE TABLE public._pogo_migration (migration_hash text, migration_id text, schema_name text, applied timestamptz);
INSERT INTO public._pogo_migration (migration_hash, migration_id, schema_name, applied)
VALUES ('x', '9999_from_later', 'public', now())
"""


@pytest.fixture(params=RELEASES, ids=lambda path: path.name.removesuffix(".sql.xz"))
def old(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation whose data folder is of that version; not started."""
    installation = Installation(TOCSIN_SECRET_KEYS=KEY, TOCSIN_RETENTION="3650")
    data = installation.disk / "data"
    try:
        in_database(data, lzma.decompress(request.param.read_bytes()).decode())
        yield installation
    finally:
        installation.stop()


def in_database(data: Path, statement: str, *values: Any) -> None:
    """Run it in the embedded database of a folder where nothing runs."""

    async def run() -> None:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute(statement, *values)
        await connection.close()

    server = embedded.start(data)
    try:
        asyncio.run(run())
    finally:
        server.stop()


def test_an_old_data_folder_is_migrated_as_is_said_and_keeps_incidents_and_what_is_outstanding(
    old: Installation, receiver: Receiver
) -> None:
    in_database(old.disk / "data", MOVE, receiver.url(""))
    in_database(old.disk / "data", NOT_NOW)
    old.up.start()
    old.wait_ready()
    [said] = [line for line in old.up.said().splitlines() if "older version" in line]
    assert "0029_domains" in said
    assert "0001_the_spine" not in said
    sent = receiver.wait_for(4, path="/waiting", timeout=30)
    told = [(each.json["incident_type"], each.json["incident_status"]) for each in sent]
    assert sorted(told) == [("fan", "ongoing"), ("over", "ongoing"), ("over", "resolved"), ("raid", "ongoing")]
    assert told.index(("over", "ongoing")) < told.index(("over", "resolved"))
    asyncio.run(everything_is_there(embedded.dsn_of(old.disk / "data")))


async def everything_is_there(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        ongoing = await connection.fetch("SELECT type FROM ongoing ORDER BY type")
        assert [row["type"] for row in ongoing] == ["fan", "raid"]
        monitor = await connection.fetchval("SELECT options FROM network_monitors WHERE name = 'Shop'")
        assert '"Cart"' in monitor
        good = """SELECT count(*) FROM finished f JOIN integrations i ON i.id = f.integration_id
                  WHERE i.settings->>'webhook_url' LIKE '%/good' AND f.status = 'delivered'"""
        assert await connection.fetchval(good) == 4
    finally:
        await connection.close()


def test_a_data_folder_of_a_newer_version_is_refused_in_words() -> None:
    installation = Installation(TOCSIN_SECRET_KEYS=KEY)
    try:
        in_database(installation.disk / "data", FROM_LATER)
        done = subprocess.run(
            [sys.executable, "-m", "tocsin", "up", "--port", "0"], capture_output=True, text=True, timeout=60,
            env={**clean_environ(), **installation.environ},
        )  # fmt: skip
        said = {line for line in done.stderr.splitlines() if line.startswith("tocsin: ")}  # by whichever part looks
        assert done.returncode == 1
        assert said == {
            "tocsin: The database belongs to a newer version of Tocsin (it has 9999_from_later); install that version"
        }
    finally:
        installation.stop()
