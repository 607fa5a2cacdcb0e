"""The queue when much goes wrong at once: answers that nothing can store, races for locks, no room for most."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg
import pytest

from tests.receivers import Receiver
from tests.waiting import PATIENCE, until
from tests.world import PUBLIC_URL, World, start, world
from tocsin.domain.deliveries import Delivered, Finish, Retry
from tocsin.engine.deliver import Deliverer
from tocsin.engine.record import FinishedAttempt
from tocsin.integrations.base import Transports
from tocsin.settings import Settings
from tocsin.storage.delivery import engines, incidents, leases
from tocsin.storage.delivery.leases import Attempt, AttemptResult
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer, _line

__all__ = ["start", "world"]

NOBODY = UUID(int=0)


async def claim(
    pool: asyncpg.Pool, engine: int, *, limit: int = 500, room: dict[UUID, int] | None = None
) -> list[Job]:
    async with pool.acquire() as tx, tx.transaction():
        return await leases.claim(
            tx, engine=engine, start=NOBODY, limit=limit, room=room or {}, default_room=32, public_url=PUBLIC_URL
        )


def tried(job: Job, then: Retry | Finish, said: str = "ok") -> AttemptResult:
    return AttemptResult(
        job.id, job.attempt, job.integration_id, Attempt(datetime.now(UTC), 1.0, "failed", response=said), then
    )


async def waiting_for_a_lock(pool: asyncpg.Pool) -> bool:
    return await pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )


async def test_destinations_without_room_do_not_keep_the_one_behind_them_waiting(world: World) -> None:
    full = [await world.attach(f"http://127.0.0.1:9/{number}") for number in range(3)]
    last = await world.attach("http://127.0.0.1:9/last")
    await world.open("a", "b")
    jobs = await claim(world.pool, 1, limit=2, room=dict.fromkeys(full, 0))
    assert [job.integration_id for job in jobs] == [last, last]


async def test_ends_of_both_kinds_are_recorded_in_the_order_in_which_a_resolve_locks(world: World) -> None:
    await world.attach("http://127.0.0.1:9/")
    await world.open("a", "b")
    first, second = sorted(await claim(world.pool, 1), key=lambda job: job.id)

    async def record() -> None:
        async with world.pool.acquire() as tx, tx.transaction():
            await leases.record(tx, [tried(first, Retry(5.0)), tried(second, Finish("delivered"))])

    async with world.pool.acquire() as resolving, resolving.transaction():
        lock = "SELECT FROM outstanding WHERE id = $1 FOR UPDATE"
        await resolving.execute(lock, first.id)
        recording = asyncio.create_task(record())
        await until(lambda: waiting_for_a_lock(world.pool), what="the record to wait")
        await resolving.execute(lock, second.id)
    await recording


async def test_a_snooze_locks_in_the_order_in_which_a_resolve_does(world: World) -> None:
    await world.attach("http://127.0.0.1:9/")
    [opened] = await world.open("a")

    async def snooze() -> None:
        async with world.pool.acquire() as tx, tx.transaction():
            await incidents.snooze(tx, world.project_id, opened.incident.id, datetime.now(UTC) + timedelta(hours=1))

    async with world.pool.acquire() as resolving, resolving.transaction():
        await resolving.execute("SELECT FROM ongoing FOR UPDATE")
        snoozing = asyncio.create_task(snooze())
        await until(lambda: waiting_for_a_lock(world.pool), what="the snooze to wait")
        await resolving.execute("SELECT FROM incidents WHERE id = $1 FOR UPDATE", opened.incident.id)
    await snoozing


async def test_a_resolve_is_not_held_up_by_the_snooze_that_it_ends(world: World) -> None:
    await world.attach("http://127.0.0.1:9/")
    [opened] = await world.open("a")
    [job] = await claim(world.pool, 1)
    async with world.pool.acquire() as tx, tx.transaction():
        await incidents.snooze(tx, world.project_id, opened.incident.id, datetime.now(UTC) + timedelta(hours=1))
    await world.resolve("a")
    async with world.pool.acquire() as tx, tx.transaction():
        await leases.record(tx, [tried(job, Retry(1.0))])
    assert await world.pool.fetchval("SELECT due_at < now() + interval '1 min' FROM outstanding WHERE event = 'opened'")


@pytest.mark.parametrize("end", ["delivered", "dead"])
async def test_a_resolve_that_was_left_waiting_says_that_the_first_notice_failed_only_where_it_did(
    world: World, end: Literal["delivered", "dead"]
) -> None:
    await world.attach_mail("alerts@example.com")
    await world.open("a")
    await world.decide()
    [opening] = await claim(world.pool, 1)
    async with world.pool.acquire() as tx, tx.transaction():
        await leases.record(tx, [tried(opening, Finish(end))])
    await world.resolve("a")
    await world.pool.execute("UPDATE outstanding SET blocked_by = $1, first_notice_failed = false", opening.id)
    async with world.pool.acquire() as tx, tx.transaction():
        await leases.recover(tx, 100)
    row = await world.pool.fetchrow("SELECT blocked_by, first_notice_failed FROM outstanding")
    assert tuple(row) == (None, end == "dead")


@pytest.fixture
def deliverer(pool: asyncpg.Pool, vault: Vault, settings: Settings) -> Deliverer:
    guard = Guard(settings.allow_networks)
    wires = Transports(Http(guard), Mailer(None, settings.email_from, settings.outbox), PUBLIC_URL)
    return Deliverer(pool, vault, wires, settings.retry_schedule)


async def test_what_an_engine_is_claiming_is_not_returned_as_forgotten(
    world: World, deliverer: Deliverer, receiver: Receiver
) -> None:
    await world.attach(receiver.url())
    await world.open(*(f"type_{number}" for number in range(30)))
    async with world.pool.acquire() as connection:
        async with connection.transaction():
            deliverer.number = await engines.register(connection, None, "here", 0.0)
        stop = asyncio.Event()
        claiming = asyncio.create_task(deliverer.claim_forever(stop))
        while await world.pool.fetchval("SELECT count(*) FROM outstanding"):
            await deliverer.return_unknown_leases(connection)
        stop.set()
        deliverer.wake.set()
        await claiming
    await deliverer.drain(1)
    assert len(receiver.requests) == 30
    assert await world.pool.fetchval("SELECT max(attempt) FROM finished") == 1


async def test_an_answer_that_cannot_be_stored_ends_its_delivery_and_holds_up_no_other(
    world: World, deliverer: Deliverer
) -> None:
    await world.attach("http://127.0.0.1:9/")
    await world.open("a", "b")
    jobs = await claim(world.pool, 1)
    ends = [
        FinishedAttempt(tried(job, Finish("delivered"), said), Delivered(), None)
        for job, said in zip(jobs, ("\udcff", "ok"), strict=True)
    ]
    async with asyncio.timeout(60):
        recorded = await asyncio.gather(*map(deliverer._recorder.record, ends))
    assert all(each.finished_at for each in recorded)


async def test_what_could_not_be_told_of_an_integrations_health_is_told_the_next_time(
    world: World, deliverer: Deliverer
) -> None:
    hook = await world.attach("http://127.0.0.1:9/")
    deliverer._failed[hook] += 2
    await world.pool.execute("ALTER TABLE integrations RENAME COLUMN failures TO away")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await deliverer.flush_health()
    deliverer._failed[hook] += 1
    await world.pool.execute("ALTER TABLE integrations RENAME COLUMN away TO failures")
    await deliverer.flush_health()
    await deliverer.flush_health()
    assert await world.pool.fetchval("SELECT failures FROM integrations WHERE id = $1", hook) == 3


def test_what_a_mail_server_says_in_no_encoding_can_be_stored() -> None:
    _line("250 angenommen f\udcfcr").encode()


async def test_an_incident_that_lasts_is_kept_although_its_key_is_of_a_wrong_clock(world: World) -> None:
    old = UUID(int=(1 << 80) | (7 << 76) | (2 << 62))
    await world.open("a")
    await world.pool.execute("UPDATE incidents SET id = $1", old)
    await world.pool.execute("UPDATE ongoing SET incident_id = $1", old)
    await retention.drop_old(world.pool, raw_days=30, days=400)
    [again] = await world.open("a")
    assert (again.new, again.incident.id) == (False, old)


async def _old_partitions(world: World) -> None:
    for month in ("20200101", "20200201"):
        first = datetime.strptime(month, "%Y%m%d").replace(tzinfo=UTC)
        bounds = [retention.FINISHED.bound(each) for each in (first, retention.FINISHED.next(first))]
        await world.pool.execute(
            f"CREATE TABLE finished_{month} PARTITION OF finished FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
        )


async def test_a_partition_in_use_is_dropped_another_time_and_the_others_now(world: World) -> None:
    await _old_partitions(world)
    there = "SELECT to_regclass('finished_20200101') IS NOT NULL, to_regclass('finished_20200201') IS NOT NULL"
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.execute("LOCK TABLE finished_20200101 IN ACCESS SHARE MODE")
        await retention.drop_old(world.pool, raw_days=30, days=400)
        assert tuple(await world.pool.fetchrow(there)) == (True, False)
    await retention.drop_old(world.pool, raw_days=30, days=400)
    assert tuple(await world.pool.fetchrow(there)) == (False, False)


async def test_nobody_waits_for_a_partition_that_a_backup_reads(world: World) -> None:
    await _old_partitions(world)
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'finished_20200101'::regclass)"
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.execute("LOCK TABLE finished_20200101 IN ACCESS SHARE MODE")
        dropping = asyncio.create_task(retention.drop_old(world.pool, raw_days=30, days=400))
        while not dropping.done():
            assert not await world.pool.fetchval(waits)
        await dropping


async def test_a_partition_that_cannot_be_made_during_a_backup_is_made_afterwards(world: World) -> None:
    newest = (await world.pool.fetch(retention.PARTITIONS, "finished"))[-2]["relname"]
    await world.pool.execute(f"DROP TABLE {newest}")
    there = f"SELECT to_regclass('{newest}') IS NOT NULL"
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.execute("LOCK TABLE finished_other IN ACCESS SHARE MODE")
        async with asyncio.timeout(PATIENCE), world.pool.acquire() as tx, tx.transaction():
            await retention.ensure_partitions(tx)
        assert not await world.pool.fetchval(there)
    async with world.pool.acquire() as tx, tx.transaction():
        await retention.ensure_partitions(tx)
    assert await world.pool.fetchval(there)
