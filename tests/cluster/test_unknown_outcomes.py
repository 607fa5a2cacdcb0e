"""What was sent to the database, and nothing said whether it was done: it is looked at, not guessed, nor repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx
import psutil
import pytest
import pytest_asyncio

from tests.calls import alarm, opened
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.processes import tocsin
from tests.service import KEY, authorized, in_this_process
from tests.waiting import until
from tests.world import PUBLIC_URL, World, world
from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.domain.deliveries import Delivered, Failed, Finish, Outcome, Retry
from tocsin.engine.deliver import Deliverer
from tocsin.engine.record import FinishedAttempt, Recorder
from tocsin.integrations.base import Transports
from tocsin.settings import Settings
from tocsin.storage.delivery import engines, leases
from tocsin.storage.delivery.leases import Attempt, AttemptResult
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault
from tocsin.storage.postgres.session import OutcomeUnknown
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer

__all__ = ["world"]


@pytest.fixture
def database(pair: tuple[Node, Node]) -> str:
    """The primary, past every wire."""
    return pair[0].dsn


@pytest.fixture
def wire(pair: tuple[Node, Node]) -> Iterator[Wire]:
    wire = Wire(pair[0].port)
    yield wire
    wire.close()


@pytest_asyncio.fixture
async def by_wire(wire: Wire) -> AsyncIterator[storage.Pool]:
    pool = await storage.pool(f"postgresql://tocsin@127.0.0.1:{wire.port}/tocsin", size=2, name="by wire")
    async with pool.acquire() as session:  # its first words say more than what it is used for
        await session.execute("SELECT")
    yield pool
    pool.terminate()


async def claimed(world: World) -> Job:
    """A delivery that is being sent."""
    await world.attach("http://127.0.0.1:9/")
    await world.open("a")
    async with world.pool.acquire() as tx, tx.transaction():
        [job] = await leases.claim(
            tx, engine=1, start=UUID(int=0), limit=1, room={}, default_room=9, public_url=PUBLIC_URL
        )
    return job


def ended(job: Job, outcome: Outcome, word: Literal["delivered", "failed"], then: Finish | Retry) -> FinishedAttempt:
    what = Attempt(datetime.now(UTC), 1.0, word)
    return FinishedAttempt(AttemptResult(job.id, job.attempt, job.integration_id, what, then), outcome, None)


async def let_it_be_unknown(wire: Wire, world: World, done: str) -> None:
    """Wait until that is true in the database, of which nothing was heard; then the session is lost."""

    async def look() -> bool:
        return bool(await world.pool.fetchval(f"SELECT {done}"))

    await until(look, what=done)
    wire.come_back()
    wire.cut()


async def test_a_result_that_was_recorded_unheard_is_looked_up_and_counted(
    world: World, wire: Wire, by_wire: storage.Pool
) -> None:
    job = await claimed(world)
    wire.lose_answers_after(b'"outcome":"delivered"')
    recording = asyncio.create_task(Recorder(by_wire).record(ended(job, Delivered(), "delivered", Finish("delivered"))))
    await let_it_be_unknown(wire, world, "EXISTS (SELECT FROM finished)")
    recorded = await recording
    row = await world.pool.fetchrow("SELECT finished_at, jsonb_array_length(attempts) AS attempts FROM finished")
    assert (recorded.accepted, recorded.finished_at) == (True, row["finished_at"])
    assert row["attempts"] == 1


async def test_an_attempt_that_was_recorded_unheard_is_recorded_once(
    world: World, wire: Wire, by_wire: storage.Pool
) -> None:
    job = await claimed(world)
    wire.lose_answers_after(b"COMMIT")
    recording = asyncio.create_task(Recorder(by_wire).record(ended(job, Failed("no"), "failed", Retry(60.0))))
    await let_it_be_unknown(wire, world, "EXISTS (SELECT FROM outstanding WHERE status = 'pending')")
    await recording
    assert await world.pool.fetchval("SELECT jsonb_array_length(attempts) FROM outstanding") == 1


async def test_what_was_claimed_unheard_goes_back_at_once(
    world: World, wire: Wire, by_wire: storage.Pool, vault: Vault, settings: Settings
) -> None:
    await world.attach("http://127.0.0.1:9/")
    await world.open("a")
    wires = Transports(
        Http(Guard(settings.allow_networks)), Mailer(None, settings.email_from, settings.outbox), PUBLIC_URL
    )
    deliverer = Deliverer(by_wire, vault, wires, settings.retry_schedule)
    async with world.pool.acquire() as listening:
        async with listening.transaction():
            deliverer.number = await engines.register(listening, None, "here", 0.0)
        wire.lose_answers_after(b"COMMIT")
        claiming = asyncio.create_task(deliverer.claim_forever(asyncio.Event()))
        await let_it_be_unknown(wire, world, "EXISTS (SELECT FROM outstanding WHERE status = 'sending')")
        with pytest.raises(OutcomeUnknown):
            await claiming
        assert deliverer.unsure
        await deliverer.return_unknown_leases(listening)
        assert not deliverer.unsure
        assert await world.pool.fetchval("SELECT status FROM outstanding") == "pending", "not after its lease"


async def test_a_caller_hears_that_nobody_knows_and_what_was_done_is_not_done_again_after_its_resolve(
    world: World, wire: Wire, environ: dict[str, str], project: Any
) -> None:
    there = configuration.load(
        environ={**environ, "TOCSIN_DATABASE_URL": f"postgresql://tocsin@127.0.0.1:{wire.port}/tocsin"}
    )
    server = ids.public("SRV", world.server_id)
    async with in_this_process(there) as front, authorized(
        PUBLIC_URL, project.api_token, transport=httpx.ASGITransport(app=front, raise_app_exceptions=False)
    ) as client:  # fmt: skip
        assert (await opened(client, alarm(server, "before"))).status_code == 201
        beat = {"heartbeat": {"name": "before"}}
        assert (await client.post("/api/v1/heartbeats", json=beat)).status_code == 201
        for said, call in (
            (b"fateful", lambda: opened(client, alarm(server, "fateful"))),
            (b"COMMIT", lambda: client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "fateful"}})),
        ):
            wire.lose_answers_after(said)
            answer = await call()
            assert (answer.status_code, "Nobody knows whether this was done" in answer.text) == (503, True)
            assert answer.headers["retry-after"]
            wire.come_back()
            wire.cut()

            async def works() -> bool:
                return (await client.get("/api/v1/incidents")).status_code == 200

            await until(works, what="the database to be back")
        await world.resolve("fateful")
        assert (await opened(client, alarm(server, "later"))).status_code == 201
        rows = await world.pool.fetch("SELECT closed_at FROM incidents WHERE type = 'fateful'")
        assert [row["closed_at"] is not None for row in rows] == [True]
        assert await world.pool.fetchval("SELECT count(*) FROM heartbeats WHERE name = 'fateful'") == 1


async def test_a_command_says_that_nobody_knows_whether_it_was_done(pair: tuple[Node, Node], tmp_path: Path) -> None:
    primary, standby = pair
    standby.freeze()
    environ = {"TOCSIN_DATABASE_URL": primary.dsn, "TOCSIN_DATA_DIR": str(tmp_path), "TOCSIN_SECRET_KEYS": KEY}
    running = asyncio.create_task(tocsin("project", "create", "Mine", environ=environ))
    waiting: list[int] = []

    async def waits() -> bool:
        rows = await primary.run("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        waiting[:] = [row["pid"] for row in rows]
        return bool(waiting)

    await until(waits, what="it to wait for the standby")
    psutil.Process(waiting[0]).kill()
    ran = await running
    assert (ran.code, ran.err.count("\n"), ran.out) == (1, 1, "")
    assert "Nobody knows whether this was done" in ran.err


async def test_engines_that_live_have_time_to_come_back_after_a_promotion(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    await primary.run("INSERT INTO engines (seen_at) VALUES (now() - interval '1 minute')")

    async def dead(node: Node) -> list[int]:
        session = await asyncpg.connect(node.dsn)
        try:
            return await engines.dead(session)
        finally:
            await session.close()

    async def found_dead() -> list[int] | None:
        return await dead(primary) or None

    [number] = await until(found_dead, what="an engine that is dead on a server that has run for long")
    await standby.promote()
    assert await dead(standby) == [], "nobody has noticed yet"
    begin = "UPDATE timeline SET number = number + 1, since = now() - interval '{} s'"
    await standby.run(begin.format(1))
    assert await dead(standby) == []
    await standby.run("UPDATE timeline SET since = now() - interval '10 s'")
    assert await dead(standby) == [number]
