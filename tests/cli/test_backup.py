"""`tocsin backup` and `tocsin restore`: everything in one file and back, while it runs, and what cannot be restored."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.backup_scene import PASSPHRASE, ask, assert_one_line, backup, restore, typed
from tests.calls import alarm, new_server, new_webhook
from tests.installation import Installation
from tests.processes import Process, clean_environ, tocsin
from tests.receivers import Answer, Mailbox, Receiver
from tests.service import Service, mail_by, service_on, started
from tests.ssh_scene import scene
from tests.sshd import Machine
from tests.waiting import PATIENCE, poll, until

PEOPLE = "oncall@example.com"
SCHEDULE = ",".join(["4"] * 100)
"""What is refused waits most of the time, and is not waited for long."""


@pytest_asyncio.fixture
async def service(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Service]:
    async with started(service_on(database, tmp_path, TOCSIN_RETRY_SCHEDULE=SCHEDULE, **mail_by(mailbox))) as service:
        yield service


# ------------------------------------------------------------------------------------------------------- there and back


@pytest.mark.timeout(300)
async def test_what_was_outstanding_is_sent_what_had_ended_is_not_and_no_restart_is_repeated(
    service: Service, receiver: Receiver, target: Machine, mailbox: Mailbox, tmp_path: Path
) -> None:
    receiver.answers["/down"] = Answer(status=503)
    receiver.answers["/hangs"] = Answer(how="hang")
    target.behave("silent")
    async with service.client() as client:
        mail = {"type": "Integrations::EmailIntegration", "settings": {"email": PEOPLE}}
        assert (await client.post("/api/v1/integrations", json={"integration": mail})).status_code == 201
        server, later = await new_server(client, "watched"), await new_server(client, "later")
        for path in ("/good", "/down", "/hangs"):
            await new_webhook(client, receiver.url(path), server)
        restarts = await scene(client, target.port)
        waiting = {"integration_id": restarts.integration, "after": 1200}
        assert (await client.post(f"/api/v1/servers/{later}/integrations", json=waiting)).status_code == 201
        incidents = [alarm(server, f"type_{number}") for number in range(10)]
        assert (await client.post("/api/v1/incidents", json={"incidents": incidents})).status_code == 201
        assert (await client.post("/api/v1/incidents", json={"incident": alarm(later)})).status_code == 201
        await restarts.open()
        good = await receiver.arrivals(10, path="/good")
        down = {each.id for each in await receiver.arrivals(10, path="/down")}
        hanging = {each.id for each in await receiver.arrivals(8, path="/hangs")}
        await asyncio.to_thread(poll, lambda: commands(target) == 1, what="a restart that is under way")
        await until(lambda: nothing_but(service.database, good), what="the end of what had been answered")

    file = tmp_path / "backup"
    done = await backup(service.environ, file)
    assert done.code == 0, done.err
    for part in (service.engine, service.api):
        assert part.alive
        part.kill()

    receiver.answers.clear()
    target.behave("password")
    restored = Installation(TOCSIN_RETRY_SCHEDULE=SCHEDULE, **mail_by(mailbox))
    try:
        done = await restore(file, restored.disk / "data")
        assert done.code == 0, done.err
        before = len(receiver.requests)
        restored.token = service.token
        restored.start()
        sent = await receiver.arrivals(before + 20)
        assert {each.id for each in sent[before:]} >= down | hanging
        async with restored.client() as client:
            log = (await client.get(f"/api/v1/integrations/{restarts.integration}/deliveries?per_page=100")).json()
            assert [each["status"] for each in log["data"]] == ["dead"] * 2
            assert all(each["reason"].startswith("outcome unknown") for each in log["data"])
            ended = [await wait_ended(client, path) for path in await webhooks(client)]
        assert ended == [["delivered"] * 10] * 3
        assert len(receiver.to("/good")) == 10, "what had ended is not sent again"
        assert commands(target) == 1
        [told] = await mailbox.arrivals(1, to=PEOPLE)
        assert "restored from a backup" in told.text
        assert "2 restarts" in told.text
    finally:
        restored.stop()


def commands(target: Machine) -> int:
    return sum("-l" not in call.words for call in target.calls)


async def nothing_but(database: str, finished: list[Any]) -> bool:
    """Whether as many deliveries have ended."""
    return bool(await ask(database, "SELECT count(*) FROM finished WHERE status = 'delivered'") >= len(finished))


async def webhooks(client: httpx.AsyncClient) -> list[str]:
    found = (await client.get("/api/v1/integrations")).json()
    return [each["uuid"] for each in found if each["type"] == "Integrations::WebhookIntegration"]


async def wait_ended(client: httpx.AsyncClient, uuid: str) -> list[str]:
    """The statuses of its deliveries once all have ended."""

    async def look() -> list[str] | None:
        found = (await client.get(f"/api/v1/integrations/{uuid}/deliveries?per_page=100")).json()["data"]
        return [each["status"] for each in found] if all(each["finished_at"] for each in found) else None

    return await until(look, what=f"the end of all deliveries of {uuid}")


async def test_a_backup_of_the_embedded_database_goes_into_a_server_of_ones_own_and_the_other_way_round(
    tmp_path: Path, empty: str, into: Path
) -> None:
    up = Installation()
    try:
        up.start()
        first = await backup(up.environ, tmp_path / "first")
        assert first.code == 0, first.err
        up.up.stop()
        stopped = await backup(up.environ, tmp_path / "second")
        assert stopped.code == 0, stopped.err  # its database is started for that alone
        done = await restore(tmp_path / "second", into, TOCSIN_DATABASE_URL=empty)
        assert done.code == 0, done.err
        assert (into / "secret_keys").read_text() == (up.disk / "data" / "secret_keys").read_text()
        assert stat.S_IMODE((into / "secret_keys").stat().st_mode) == 0o600
        settings = {"TOCSIN_DATABASE_URL": empty, "TOCSIN_DATA_DIR": str(into)}
        reading = await tocsin("project", "list", "--json", environ=settings)
        assert '"Tests"' in reading.out
        audit = "SELECT string_agg(action, ', ' ORDER BY id) FROM audit WHERE action LIKE '%backup'"
        assert await ask(empty, audit) == "took a backup, restored a backup"
        again = await restore(tmp_path / "first", tmp_path / "another", TOCSIN_DATABASE_URL=empty)
        assert_one_line(again, 1, "not empty", "make a new database")
        assert not (tmp_path / "another").exists()
    finally:
        up.stop()


# -------------------------------------------------------------------------------------------------------------- saving


async def test_the_file_is_its_owners_alone_and_nothing_else_is_left(saved: Path, environ: dict[str, str]) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    content = saved.read_bytes()
    assert b"network_monitors" not in content
    await ask(environ["TOCSIN_DATABASE_URL"], "CREATE TABLE mine ()")
    again = await backup(environ, saved)
    assert (again.code, again.err) == (0, "Not saved, for they are no tables of Tocsin's: mine\n")
    assert saved.read_bytes() != content
    assert [each.name for each in saved.parent.iterdir() if "saved" in each.name] == ["saved"]


async def test_a_file_that_is_no_backup_is_never_replaced(environ: dict[str, str], tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear Ann,")
    assert_one_line(await backup(environ, letter), 2, "is no backup")
    assert letter.read_text() == "Dear Ann,"
    assert_one_line(await backup(environ, tmp_path / "nowhere" / "file"), 2, "there is no folder")


async def test_a_backup_that_cannot_be_finished_leaves_nothing_behind(
    environ: dict[str, str], tmp_path: Path
) -> None:
    connection = await asyncpg.connect(environ["TOCSIN_DATABASE_URL"])
    await connection.execute("BEGIN; LOCK TABLE users")
    folder = tmp_path / "backups"
    folder.mkdir()
    process = Process(
        "backup", str(folder / "file"), environ={**environ, "TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE},
        log=tmp_path / "backup.log",
    ).start()
    await asyncio.to_thread(poll, lambda: any(folder.iterdir()), what="a file that is being written")
    # in the middle of an import, Python itself ends as if by the signal
    assert await asyncio.to_thread(process.stop) in (130, -signal.SIGINT), process.said()
    assert process.said().endswith("tocsin: interrupted\n")
    assert not list(folder.iterdir())
    await connection.close()


LARGE = """
INSERT INTO audit (who, action, subject, details)
SELECT 'x', 'x', 'x', to_jsonb(long) FROM generate_series(1, 120),
       (SELECT string_agg(md5(n::text), '') AS long FROM generate_series(1, 2200) n) made
"""
"""Twice as long as what zlib looks back on, so that it is all in the file."""


async def test_a_backup_that_is_read_back_ends_at_once_when_it_is_told_to(
    environ: dict[str, str], tmp_path: Path
) -> None:
    await ask(environ["TOCSIN_DATABASE_URL"], LARGE)
    folder = tmp_path / "backups"
    folder.mkdir()
    process = Process(
        "backup", str(folder / "file"), environ={**environ, "TOCSIN_BACKUP_PASSPHRASE": PASSPHRASE},
        log=tmp_path / "backup.log",
    ).start()  # fmt: skip
    size = await asyncio.to_thread(reads, process.pid, folder)
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGCONT)
    furthest = 0
    while process.alive:
        furthest = max(furthest, place(process.pid, folder))
    assert process.wait(PATIENCE) in (130, -signal.SIGINT), process.said()
    assert furthest < 0.9 * size, "it read on"
    assert process.said().endswith("tocsin: interrupted\n")
    assert not list(folder.iterdir())


def reads(pid: int, folder: Path) -> int:
    """Stop the process when it reads what it has written. Returns how much that is."""
    deadline = time.monotonic() + PATIENCE
    size = 0
    while not 0 < place(pid, folder) < size // 2:
        assert time.monotonic() < deadline
        size = max(size, place(pid, folder))
        time.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    return size


def place(pid: int, folder: Path) -> int:
    """Where the process is in the file of that folder."""
    with contextlib.suppress(FileNotFoundError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith(f"{folder}/"):
                return int(Path(f"/proc/{pid}/fdinfo/{number}").read_text().split()[1])
    return 0


async def test_a_passphrase_is_needed_and_comes_from_a_file_or_a_terminal(
    environ: dict[str, str], into: Path, tmp_path: Path
) -> None:
    assert_one_line(
        await backup(environ, tmp_path / "file", TOCSIN_BACKUP_PASSPHRASE=""), 2, "--passphrase-file",
        "TOCSIN_BACKUP_PASSPHRASE",
    )
    assert_one_line(await backup(environ, tmp_path / "file", TOCSIN_BACKUP_PASSPHRASE="short"), 2, "8 characters")
    (tmp_path / "word").write_text(f"{PASSPHRASE}\n")
    done = await tocsin("backup", str(tmp_path / "file"), "--passphrase-file", str(tmp_path / "word"), environ=environ)
    assert done.code == 0, done.err
    command = [sys.executable, "-m", "tocsin", "restore", str(tmp_path / "file"), "--passphrase-file", "-"]
    wrong = await asyncio.to_thread(
        subprocess.run, [*command, "--data-dir", str(into)], env=clean_environ(), input=b"not this one\n",
        capture_output=True,
    )
    assert b"passphrase is wrong" in wrong.stderr
    said = await asyncio.to_thread(typed, ["backup", str(tmp_path / "typed")], environ, f"{PASSPHRASE}\n" * 2)
    assert "Repeat for confirmation" in said
    assert PASSPHRASE not in said
    assert (tmp_path / "typed").exists(), said


async def test_keys_that_open_nothing_make_no_backup(environ: dict[str, str], saved: Path, tmp_path: Path) -> None:
    other = (await tocsin("secrets", "new")).out.strip()
    assert_one_line(await backup(environ, tmp_path / "file", TOCSIN_SECRET_KEYS=other), 1, "open no secret")


# ----------------------------------------------------------------------------------------------------------- restoring


async def test_what_is_no_whole_backup_of_this_passphrase_is_refused_in_a_line_and_leaves_nothing(
    saved: Path, into: Path, tmp_path: Path
) -> None:
    content = saved.read_bytes()
    letter, cut = tmp_path / "letter", tmp_path / "cut"
    letter.write_text("Dear Ann,")
    cut.write_bytes(content[: len(content) // 2])
    for file, words, environ in (
        (letter, "not a backup of Tocsin", {}),
        (cut, "cut off", {}),
        (saved, "passphrase is wrong", {"TOCSIN_BACKUP_PASSPHRASE": "something else"}),
    ):
        assert_one_line(await restore(file, into, **environ), 1, words)
        assert not into.exists()


async def test_nothing_is_restored_over_what_is_there(
    saved: Path, service: Service, environ: dict[str, str], into: Path, empty: str
) -> None:
    into.mkdir()
    (into / "secret_keys").write_text("x")
    assert_one_line(await restore(saved, into), 2, "secret_keys")
    (into / "secret_keys").unlink()
    (into / "mine").write_text("x")
    assert_one_line(await restore(saved, into), 2, "not empty (it has mine)")
    (into / "mine").unlink()
    living = {"TOCSIN_DATABASE_URL": service.database}
    assert_one_line(await restore(saved, into, **living), 1, "not empty", "make a new database")
    assert not list(into.iterdir())
    other = (await tocsin("secrets", "new")).out.strip()
    assert_one_line(await restore(saved, into, TOCSIN_SECRET_KEYS=other), 2, "TOCSIN_SECRET_KEYS", "unset it")
    keys = f"{other},{environ['TOCSIN_SECRET_KEYS']}"
    done = await restore(saved, into, TOCSIN_SECRET_KEYS=keys, TOCSIN_DATABASE_URL=empty)
    assert done.code == 0, done.err
    assert not (into / "secret_keys").exists(), "they are in the settings"
