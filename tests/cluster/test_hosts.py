"""A database's address with several hosts: the one that is writable is found, and found once for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.cluster import nodes
from tests.cluster.load import BUSY
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.processes import tocsin
from tests.service import KEY
from tests.waiting import until
from tocsin.cli.sockets import free_port
from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import connecting, database, migrate
from tocsin.storage.postgres.connecting import NoPrimary, NotPrimary
from tocsin.storage.postgres.primary import Primary
from tocsin.storage.postgres.session import OutcomeUnknown

pytestmark = pytest.mark.usefixtures("pair")


@pytest.fixture
def another(pair: tuple[Node, Node]) -> Iterator[Node]:
    """A primary of another cluster."""
    with nodes.made(pair[0].folder.with_name("another")) as node:
        yield node.start()


def url_of(*ports: int) -> str:
    return f"postgresql://tocsin@{','.join(f'127.0.0.1:{port}' for port in ports)}/tocsin"


async def test_the_one_that_is_writable_wins_wherever_it_stands(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire]
) -> None:
    primary, standby = pair
    silent = wires[1]
    silent.vanish()
    gone = free_port()
    for ports in ((standby.port, primary.port), (primary.port, standby.port), (silent.port, gone, primary.port)):
        began = time.monotonic()
        session = await connecting.connect(url_of(*ports))
        assert time.monotonic() - began < connecting.HOST_TIMEOUT, "it is not asked after the silent one"
        assert session.host is not None
        assert session.host.port == primary.port
        await session.close()


async def test_standbys_alone_are_told_in_one_line(pair: tuple[Node, Node], tmp_path: Path) -> None:
    _, standby = pair
    gone = free_port()
    with pytest.raises(NotPrimary, match="is a standby"):
        await connecting.connect(url_of(standby.port))
    with pytest.raises(NoPrimary, match=f"{standby.port} is a standby; 127.0.0.1:{gone} refuses connections"):
        await connecting.connect(url_of(standby.port, gone))
    with pytest.raises(Refused, match="none of its hosts is a primary"):
        await migrate.reach(url_of(standby.port, gone), 0.0)
    environ = {
        "TOCSIN_DATABASE_URL": url_of(standby.port), "TOCSIN_DATA_DIR": str(tmp_path), "TOCSIN_SECRET_KEYS": KEY,
    }  # fmt: skip
    ran = await tocsin("doctor", environ=environ)
    assert ran.code == 1
    assert "fail  database       The database of TOCSIN_DATABASE_URL cannot be reached: it is a standby" in ran.out
    ran = await tocsin("project", "list", environ=environ)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "is a standby" in ran.err


async def test_an_old_primary_that_comes_back_gets_no_session(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    url, seen = url_of(primary.port, standby.port), dict[int, int]()
    await (await connecting.connect(url, newest=seen)).close()
    await standby.promote()  # and nobody told the other one

    async def new_one() -> bool:
        session = await connecting.connect(url, newest=seen)
        await session.close()
        return session.host is not None and session.host.port == standby.port

    await until(new_one, what="the new primary")
    only_old = connecting.hosts_of(url_of(primary.port, free_port()))
    with pytest.raises(NoPrimary, match="was the primary before another took over"):
        await connecting.connect(url, hosts=only_old, newest=seen)


async def test_of_two_that_can_be_written_the_one_that_was_promoted_last_is_the_primary(
    pair: tuple[Node, Node],
) -> None:
    old, new = pair
    await new.promote()  # and nobody told the other one
    for ports in ((old.port, new.port), (new.port, old.port)):
        session = await migrate.reach(url_of(*ports), 0.0)
        assert session.host is not None
        assert session.host.port == new.port
        session.terminate()
        primary = Primary(url_of(*ports))
        session = await primary.connect()
        assert session.host is not None
        assert session.host.port == new.port
        primary.close()


async def test_hosts_of_two_clusters_are_told_apart(pair: tuple[Node, Node], another: Node) -> None:
    primary, standby = pair
    url = url_of(primary.port, standby.port, another.port)
    with pytest.raises(Unusable, match=f"names hosts of two clusters: .*{another.port}.*; name those of one"):
        await migrate.reach(url, 0.0)
    pool = await database.pool(Primary(url_of(another.port, primary.port)), size=2, name="tests")
    another.end()
    async with pool.acquire() as tx:
        await tx.execute("CREATE TABLE kept (number int)")
    primary.kill()
    another.start()

    async def refused() -> bool:
        try:
            async with pool.acquire() as tx:
                await tx.execute("SELECT FROM pg_class")
        except database.NotSent as error:
            return f"{another.port} is writable, but belongs to another cluster" in str(error)
        except database.UNAVAILABLE:
            pass
        return False

    await until(refused, what="a refusal")
    pool.terminate()


async def test_many_who_find_no_primary_look_for_it_together(pair: tuple[Node, Node], wires: tuple[Wire, Wire]) -> None:
    wires[0].vanish()
    pool = await database.pool(Primary(url_of(*(wire.port for wire in wires))), size=8, name="tests")

    async def ask() -> float:
        began = time.monotonic()
        with pytest.raises(database.NotSent, match="is a standby"):
            async with pool.acquire():
                pass
        return time.monotonic() - began

    waited = await asyncio.gather(*(ask() for _ in range(100)))
    assert max(waited) < 2 + BUSY
    assert wires[1].connected < 30
    pool.terminate()


async def test_a_primary_that_became_read_only_loses_its_sessions(pair: tuple[Node, Node]) -> None:
    primary, _ = pair
    pool = await database.pool(primary.dsn, size=2, name="tests")
    async with pool.acquire() as tx:
        await tx.execute("CREATE TABLE kept (number int)")
    await primary.run("ALTER SYSTEM SET default_transaction_read_only = on")
    await primary.run("SELECT pg_reload_conf()")

    async def refused() -> bool:
        try:
            async with pool.acquire() as tx:
                await tx.execute("INSERT INTO kept VALUES (1)")
        except database.UNAVAILABLE as error:
            return isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        return False

    await until(refused, what="a refusal")
    assert pool.get_size() == 0, "nobody keeps it"
    with pytest.raises(database.NotSent, match="is read-only"):
        async with pool.acquire():
            pass
    connection = await asyncpg.connect(primary.dsn)
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()

    async def works() -> bool:
        try:
            async with pool.acquire() as tx:
                await tx.execute("INSERT INTO kept VALUES (2)")
        except database.UNAVAILABLE:
            return False
        return True

    await until(works, what="a session")
    pool.terminate()


async def test_what_waits_for_a_standby_is_unknown_and_seen_by_nobody(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    pool = await database.pool(Primary(primary.dsn, callers=True), size=4, name="tests")
    async with pool.acquire() as tx:
        await tx.execute("CREATE TABLE kept (number int)")
    standby.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="waits for a standby"):
            async with database.transaction(pool) as tx:
                await tx.execute("INSERT INTO kept VALUES (1)")
        assert time.monotonic() - began < 3 + BUSY
        assert not await primary.run("SELECT FROM kept"), "a cancelled wait would show it here and nowhere else"
        began = time.monotonic()
        with pytest.raises(database.WaitsForStandby):
            async with pool.acquire():
                pass
        assert time.monotonic() - began < 0.5 + BUSY, "and nothing more is sent to wait there"
    finally:
        standby.thaw()

    async def confirmed() -> bool:
        return not pool.primary.waits_for_standby and bool(await primary.run("SELECT FROM kept"))

    await until(confirmed, what="the standby's confirmation")
    async with pool.acquire() as tx:
        assert await tx.fetchval("SELECT count(*) FROM kept") == 1
    pool.terminate()
