"""`tocsin restore` that is disturbed: never a database without its keys, and never nobody who knows how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from tests.backup_scene import PASSPHRASE, restore, typed
from tests.processes import Process
from tests.waiting import PATIENCE, poll, until


async def test_what_comes_into_the_folder_while_the_passphrase_is_typed_is_seen(saved: Path, into: Path) -> None:
    into.mkdir()
    said = await asyncio.to_thread(
        typed, ["restore", str(saved), "--data-dir", str(into)], {}, f"{PASSPHRASE}\n",
        lambda: (into / "postgres").mkdir(),
    )  # fmt: skip
    assert "not empty (it has postgres)" in said
    assert sorted(each.name for each in into.iterdir()) == ["lock", "postgres"]


async def test_a_database_never_comes_to_its_place_without_its_keys(
    saved: Path, into: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    process = Process(
        "restore", str(saved), environ={"TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE, "TOCSIN_DATA_DIR": str(into)},
        log=tmp_path / "restore.log",
    ).start()  # fmt: skip
    await asyncio.to_thread(poll, (into / "restoring").exists, what="a database that is made")
    (into / "secret_keys").mkdir()
    assert await asyncio.to_thread(process.wait, PATIENCE) == 1, process.said()
    assert sorted(each.name for each in into.iterdir()) == ["lock", "secret_keys"]
    # as after a crash between the two: the keys are there, and what they open is not
    (into / "secret_keys").rmdir()
    (into / "secret_keys").write_text(environ["TOCSIN_SECRET_KEYS"])
    (into / "restoring").mkdir()
    done = await restore(saved, into)
    assert done.code == 0, done.err
    assert sorted(each.name for each in into.iterdir()) == ["lock", "postgres", "secret_keys"]


HELD_COMMIT = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END';
CREATE FUNCTION make() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF to_regclass('audit') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'waits') THEN
        CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON audit INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait();
    END IF;
END $$;
CREATE EVENT TRIGGER makes ON ddl_command_end WHEN tag IN ('CREATE TABLE') EXECUTE FUNCTION make();
SELECT pg_advisory_lock(42)
"""
"""From now on a commit with something for the audit log waits for this session."""
COMMITTING = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT;' AND wait_event = 'advisory'"


@pytest.mark.parametrize("committed", [True, False])
async def test_a_restore_whose_commit_has_no_answer_looks_whether_it_was_done(
    saved: Path, into: Path, tmp_path: Path, empty: str, committed: bool
) -> None:
    holder = await asyncpg.connect(empty)
    await holder.execute(HELD_COMMIT)
    settings = {"TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE, "TOCSIN_DATA_DIR": str(into)}
    async with wire_to(empty) as wire:
        process = Process(
            "restore", str(saved), environ={**settings, "TOCSIN_DATABASE_URL": wire.dsn}, log=tmp_path / "log"
        ).start()
        pid = await until(lambda: holder.fetchval(COMMITTING), what="a commit")
        wire.silent = True
        if committed:
            await holder.execute("SELECT pg_advisory_unlock(42)")
            await until(lambda: holder.fetchval("SELECT to_regclass('audit') IS NOT NULL"), what="the commit")
        else:
            await holder.execute("SELECT pg_terminate_backend($1)", pid)
        wire.cut()
        assert await asyncio.to_thread(process.wait, PATIENCE) == (0 if committed else 1), process.said()
    await holder.close()
    if not committed:
        assert "nothing is restored" in process.said()
        assert not into.exists()
        done = await restore(saved, into, TOCSIN_DATABASE_URL=empty)
        assert done.code == 0, done.err
    assert (into / "secret_keys").exists()


class wire_to:
    """A socket that leads to that of a database's address. While it is silent, no answers pass."""

    def __init__(self, dsn: str) -> None:
        self.silent = False
        self._folder = tempfile.mkdtemp()
        self._far = parse_qs(urlsplit(dsn).query)["host"][0] + "/.s.PGSQL.5432"
        self.dsn = f"{dsn.partition('?')[0]}?host={self._folder}"
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> wire_to:
        self._server = await asyncio.start_unix_server(self._lead, f"{self._folder}/.s.PGSQL.5432")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        shutil.rmtree(self._folder)

    def cut(self) -> None:
        """End what there is; what comes is answered again."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        self.silent = False

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._far)
        self._writers += [writer, far_writer]
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer, answers=True))

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await source.read(65_536):
            if not (answers and self.silent):
                to.write(data)
                await to.drain()
        if not (answers and self.silent):
            to.close()
