"""PostgreSQL servers of a test's own on TCP: a primary and its standby, which may be killed, frozen and promoted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil

from tests.waiting import poll, until
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres import binaries
from tocsin.storage.postgres.children import die_with_parent
from tocsin.storage.postgres.migrate import migrate

SETTINGS = {
    "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "full_page_writes": "off",
    "shared_buffers": "16MB", "max_connections": "60", "wal_level": "replica", "hot_standby": "on",
    "wal_receiver_status_interval": "1s", "wal_retrieve_retry_interval": "200ms", "max_parallel_workers": "0",
    "io_method": "sync", "autovacuum": "off", "wal_keep_size": "64MB", "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that one that is killed leaves nothing behind
}  # fmt: skip
USER, DATABASE = "tocsin", "tocsin"


class Node:
    """One server. It can be started again after it ended."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.settings = {**SETTINGS, **settings}
        self.log = folder.with_suffix(".log")
        self._runner = binaries.account(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """Its own address, past every wire."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> Node:
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries.programs(self._runner) / "postgres", "-D", self.folder, "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGQUIT), **self._runner.options(),
            )  # fmt: skip
        poll(self._ready, what=lambda: f"PostgreSQL to be ready:\n{self.log.read_text()[-2000:]}")
        return self

    def _ready(self) -> bool:
        with suppress(OSError):
            lines = (self.folder / "postmaster.pid").read_text().split("\n")
            return len(lines) > 7 and lines[7].strip() in ("ready", "standby")
        return False

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def kill(self) -> None:
        """kill -9 of the first process; the others end when they notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop all of its processes where they are: its connections stay, and say nothing."""
        for member in self._family():
            member.suspend()

    def thaw(self) -> None:
        for member in reversed(self._family()):
            with suppress(psutil.NoSuchProcess):
                member.resume()

    def end(self) -> None:
        if self._process is None:
            return
        family = self._family()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        self._process = None
        (self.folder / "postmaster.pid").unlink(missing_ok=True)  # it said that it is ready

    async def run(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def promote(self) -> None:
        """Make it the primary; back when it is."""
        assert (await self.run("SELECT pg_promote(true, 30) AS done"))[0]["done"]


@contextmanager
def made(folder: Path) -> Iterator[Node]:
    """A server of a cluster of its own, with an empty database. It does not run."""
    folder.mkdir(mode=0o700)
    runner = binaries.account(folder.with_name("none"))
    if runner.switch:
        os.chown(folder, runner.uid, runner.gid)
    subprocess.run(
        [binaries.programs(runner) / "initdb", "-D", folder, "--username", USER, "--auth", "trust", "--no-sync",
         "--encoding", "UTF8", "--locale", "C", "--no-instructions"],
        check=True, capture_output=True, **runner.options(),
    )  # fmt: skip
    with subprocess.Popen(
        [binaries.programs(runner) / "postgres", "--single", "-F", "-D", folder, "postgres"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **runner.options(),
    ) as single:
        single.communicate(f"CREATE DATABASE {DATABASE} STRATEGY file_copy\n".encode())
    node = Node(folder)
    try:
        yield node
    finally:
        node.end()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prepared() -> Iterator[Path]:
    """The data folder of a migrated database that runs nowhere, to be copied."""
    place = Path(tempfile.mkdtemp(prefix="tocsin-cluster-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    place.chmod(0o755)
    try:
        with made(place / "prepared") as node:
            node.start()
            asyncio.run(migrate(node.dsn))
            assert node._process is not None
            node._process.send_signal(signal.SIGINT)
            node._process.wait(30)
            yield node.folder
    finally:
        shutil.rmtree(place, ignore_errors=True)


_numbers = iter(range(1, 1_000))


@contextmanager
def pair(prepared: Path, *, synchronous: bool = True) -> Iterator[tuple[Node, Node]]:
    """A primary and its standby, in step with each other."""
    number = next(_numbers)
    folders = [prepared.with_name(f"{name}{number}") for name in ("first", "second")]
    for folder in folders:
        subprocess.run(["cp", "-a", prepared, folder], check=True)
    primary = Node(folders[0], synchronous_standby_names="*" if synchronous else "")
    (folders[1] / "standby.signal").touch()
    standby = Node(folders[1], primary_conninfo=f"host=127.0.0.1 port={primary.port} user={USER}")
    try:
        primary.start()
        standby.start()
        yield primary, standby
    finally:
        for node in (primary, standby):
            node.end()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


async def in_step(primary: Node) -> None:
    """Until a standby follows it."""
    query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"

    async def look() -> bool:
        return (await primary.run(query))[0][0] > 0

    await until(look, what="a standby that follows")
