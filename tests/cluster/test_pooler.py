"""pgbouncer between us and PostgreSQL: sessions that are lent for one transaction are refused, in one line."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.nodes import DATABASE, USER, Node
from tests.needed import program
from tests.processes import tocsin
from tests.service import KEY
from tests.waiting import poll
from tocsin.cli.sockets import free_port
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import binaries, database, migrate
from tocsin.storage.postgres.children import die_with_parent

OURS = "jit,plan_cache_mode,enable_seqscan"


@contextmanager
def pgbouncer(node: Node, folder: Path, mode: str, ignored: str = OURS, size: int = 40) -> Iterator[str]:
    """The address of one in front of the server."""
    port = free_port()
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "users.txt").write_text(f'"{USER}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{DATABASE} = host=127.0.0.1 port={node.port} user={USER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
        f"pool_mode = {mode}\ndefault_pool_size = {size}\nignore_startup_parameters = {ignored}\n"
    )
    runner = binaries.account(folder / "none")
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program("pgbouncer"), folder / "pgbouncer.ini"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=die_with_parent(9), **runner.options(),
        )  # fmt: skip
    try:
        poll(lambda: "process up" in log.read_text(), what=lambda: f"pgbouncer; it said:\n{log.read_text()}")
        yield f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder(pair: tuple[Node, Node]) -> Path:
    """A place that pgbouncer's account can enter."""
    return pair[0].folder.with_name(f"{pair[0].folder.name}-pgbouncer")


async def test_sessions_lent_for_a_transaction_are_refused_at_the_start(
    pair: tuple[Node, Node], folder: Path, tmp_path: Path
) -> None:
    with pgbouncer(pair[0], folder, "transaction") as url:
        for _ in range(3):  # the server's sessions are used by then
            with pytest.raises(Unusable, match="set pool_mode = session"):
                await migrate.reach(url, 0.0)
        environ = {"TOCSIN_DATABASE_URL": url, "TOCSIN_DATA_DIR": str(tmp_path), "TOCSIN_SECRET_KEYS": KEY}
        for command in (["migrate"], ["serve", "--port", "0"], ["engine"]):
            ran = await tocsin(*command, environ=environ)
            assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
            assert "TOCSIN_DATABASE_URL: leads to a pooler that lends sessions for one transaction" in ran.err
        ran = await tocsin("doctor", environ=environ)
        assert ran.code == 1
        assert "set pool_mode = session" in ran.out


async def test_settings_that_it_does_not_know_are_named_with_what_to_do(pair: tuple[Node, Node], folder: Path) -> None:
    with (
        pgbouncer(pair[0], folder, "session", ignored="extra_float_digits") as url,
        pytest.raises(Unusable, match=f"ignore_startup_parameters = {OURS}"),
    ):
        await migrate.reach(url, 0.0)


async def test_sessions_that_are_ours_alone_do(pair: tuple[Node, Node], folder: Path) -> None:
    with pgbouncer(pair[0], folder, "session") as url:
        assert await migrate.is_current(url)
        pool = await database.pool(url, size=1, name="tests")
        assert await pool.fetchval("SHOW enable_seqscan") == "off", "though pgbouncer passes it on to nobody"
        await pool.close()


async def test_one_with_room_for_a_single_session_is_refused_in_words(pair: tuple[Node, Node], folder: Path) -> None:
    with (
        pgbouncer(pair[0], folder, "session", size=1) as url,
        pytest.raises(Unusable, match="raise default_pool_size"),
    ):
        async with asyncio.timeout(30):
            await migrate.reach(url, 0.0)
