"""What a process believes of its primary: nothing that is over is believed for longer than it lasts."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import psutil
import pytest

from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.waiting import until
from tocsin.storage.postgres import database
from tocsin.storage.postgres.primary import Primary
from tocsin.storage.postgres.session import OutcomeUnknown

APP = """
DO $$ BEGIN CREATE ROLE app LOGIN; CREATE TABLE kept (number int); GRANT ALL ON kept TO app; END $$
"""
WRITE = "INSERT INTO kept VALUES (1)"


async def _pool(pair: tuple[Node, Node], size: int, *ports: int) -> database.Pool:
    """Of sessions whose number the server can limit. `ports`, if not their own."""
    await pair[0].run(APP)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports or [node.port for node in pair])
    return await database.pool(Primary(f"postgresql://app@{hosts}/tocsin", callers=True), size=size, name="tests")


async def _limit(primary: Node, sessions: int) -> None:
    """Whether the standby is there or not."""
    connection = await asyncpg.connect(primary.dsn, server_settings={"synchronous_commit": "local"})
    await connection.execute(f"ALTER ROLE app CONNECTION LIMIT {sessions}")
    await connection.close()


async def _works(pool: database.Pool) -> bool:
    try:
        async with database.transaction(pool) as tx:
            await tx.execute(WRITE)
    except database.UNAVAILABLE:
        return False
    return True


async def _waits_in_vain(pool: database.Pool) -> None:
    with pytest.raises(OutcomeUnknown, match="waits for a standby"):
        async with database.transaction(pool) as tx:
            await tx.execute(WRITE)


async def test_a_primary_that_is_lost_while_it_waits_for_a_standby_is_looked_for(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    pool = await _pool(pair, 4)
    assert await _works(pool)
    standby.freeze()
    try:
        await _waits_in_vain(pool)
        await _limit(primary, 0)

        async def looked_for() -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5):  # as an engine's listening session, past the pool
                    await pool.primary.connect()
            try:
                async with pool.acquire():
                    return False
            except database.WaitsForStandby:
                return False
            except database.NotSent as error:
                return "too many connections" in str(error)

        await until(looked_for, timeout=10, what="a search")
    finally:
        standby.thaw()
    await _limit(primary, -1)
    await until(lambda: _works(pool), what="a write")
    pool.terminate()


async def test_one_session_that_hangs_while_it_waits_for_a_standby_holds_up_nobody_else(
    pair: tuple[Node, Node],
) -> None:
    primary, standby = pair
    pool = await _pool(pair, 4)
    await primary.run("GRANT pg_monitor TO app")
    assert await _works(pool)
    standby.freeze()
    try:
        await _waits_in_vain(pool)
        (waiting,) = await primary.run("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        hung = psutil.Process(waiting["pid"])
        hung.suspend()
    finally:
        standby.thaw()
    try:
        await until(lambda: _works(pool), timeout=20, what="a write")
    finally:
        hung.resume()
    pool.terminate()


async def test_a_primary_that_had_no_room_for_a_moment_is_not_lost_for_good(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire]
) -> None:
    pool = await _pool(pair, 2, *(wire.port for wire in wires))
    async with pool.acquire() as tx:
        await _limit(pair[0], 1)
        with pytest.raises(database.NotSent, match="too many connections"):
            async with pool.acquire():
                pass
        await until(lambda: _quiet(wires[1]), what="the end of the search, which nobody needs any more")
        await _limit(pair[0], -1)
        assert await tx.fetchval("SELECT 1") == 1

    async def believed() -> bool:
        async with pool.acquire() as tx:
            await tx.fetchval("SELECT 1")
        return pool.primary.trouble is None

    await until(believed, timeout=10, what="the end of the trouble")
    assert pool.get_size() == 1, "no session was asked for"
    wires[0].vanish()
    began = asyncio.get_running_loop().time()
    with pytest.raises(database.UNAVAILABLE):
        async with pool.acquire() as tx:
            await tx.fetchval("SELECT 1")
    assert asyncio.get_running_loop().time() - began < 10, "and it is looked after again"
    pool.terminate()


async def _quiet(wire: Wire) -> bool:
    """Whether nobody has come for a second."""
    before = wire.connected
    await asyncio.sleep(1)
    return wire.connected == before


@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_primary_is_of_use_however_long_its_way_is(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire], hosts: int
) -> None:
    places = ",".join(f"127.0.0.1:{wire.port}" for wire in wires[:hosts])
    pool = await database.pool(f"postgresql://tocsin@{places}/tocsin", size=4, name="tests")
    for wire in wires:
        wire.delay = 0.15  # there, and as long back

    async def answers() -> bool:
        try:
            async with pool.acquire() as tx:
                return bool(await tx.fetchval("SELECT 1"))
        except database.UNAVAILABLE:
            return False

    await until(answers, timeout=30, what="a session")
    async with pool.acquire() as tx:  # for as long as somebody looks after it
        assert await tx.fetchval("SELECT 1 FROM pg_sleep(3)") == 1
    assert pool.primary.trouble is None
    pool.terminate()
