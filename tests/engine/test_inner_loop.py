"""Who watches over an installation hears from it while all of it works, and only then."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from tests.processes import tocsin
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.domain import inner_loop as inner
from tocsin.storage.delivery import inner_loop
from tocsin.storage.postgres.secrets import Vault

EVERY = 0.5
QUIET = 4 * EVERY
"""After this, what is not called would have been called otherwise."""
PATH = "/ping/secret-of-this-address"


def watched(service_with: Callable[..., Service], receiver: Receiver, **environ: str) -> Service:
    return service_with(
        TOCSIN_HEARTBEAT_URL=receiver.url(PATH), TOCSIN_HEARTBEAT_EVERY=str(EVERY), TOCSIN_ENV="production", **environ
    )


async def calls_go_on(receiver: Receiver) -> None:
    before = len(receiver.requests)
    await receiver.arrivals(before + 2, timeout=60)


async def calls_end(receiver: Receiver) -> None:
    """Within the two intervals for which the last round counts."""
    before, since = len(receiver.requests), time.monotonic()

    async def quiet() -> bool:
        nonlocal before, since
        if len(receiver.requests) != before:
            before, since = len(receiver.requests), time.monotonic()
        return time.monotonic() - since > QUIET

    await until(quiet, timeout=30, what="calls to end")


async def test_the_watcher_hears_of_an_installation_until_its_engine_hangs(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    service = watched(service_with, receiver)
    await calls_go_on(receiver)
    assert {(each.method, each.path) for each in receiver.requests} == {("GET", PATH)}
    service.engine.signal(signal.SIGSTOP)
    try:
        await calls_end(receiver)
    finally:
        service.engine.signal(signal.SIGCONT)
    await calls_go_on(receiver)
    times = [each.monotonic for each in receiver.requests[-2:]]
    assert times[1] - times[0] > EVERY / 2, "it is called once an interval, not at each look"


async def test_one_hung_engine_of_two_leaves_the_installation_working_and_a_dead_api_does_not(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    service = watched(service_with, receiver)
    service.add_engine()
    await calls_go_on(receiver)
    service.engine.signal(signal.SIGSTOP)
    try:
        await calls_go_on(receiver)
    finally:
        service.engine.signal(signal.SIGCONT)
    service.api.kill()
    await calls_end(receiver)


async def test_nobody_is_told_that_all_works_while_deliveries_cannot_be_recorded(
    service_with: Callable[..., Service], receiver: Receiver, database: str
) -> None:
    watched(service_with, receiver)
    await calls_go_on(receiver)
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE finished IN EXCLUSIVE MODE")
            await calls_end(receiver)
    finally:
        await connection.close()
    await calls_go_on(receiver)


async def test_a_watcher_that_redirects_or_is_away_stops_nothing_and_is_said_once(
    service_with: Callable[..., Service], receiver: Receiver, new_receiver: Callable[[], Receiver], vault: Vault
) -> None:
    elsewhere = new_receiver()
    receiver.otherwise = Answer(302, {"Location": elsewhere.url("/")})
    service = watched(service_with, receiver)
    await receiver.arrivals(3, timeout=60)
    said = service.engine.said()
    assert said.count("TOCSIN_HEARTBEAT_URL cannot be called") == 1
    assert "it answered 302" in said
    assert "secret-of-this" not in said
    ran = await tocsin("doctor", environ=service.environ)
    line = next(line for line in ran.out.splitlines() if "inner loop" in line)
    assert line.startswith("warn")
    assert "it answered 302" in line
    assert elsewhere.requests == []
    receiver.otherwise = Answer()
    await calls_go_on(receiver)
    assert service.engine.said().count("TOCSIN_HEARTBEAT_URL answers again") == 1
    ran = await tocsin("doctor", environ=service.environ)
    line = next(line for line in ran.out.splitlines() if "inner loop" in line)
    assert line.startswith("ok")
    assert "TOCSIN_HEARTBEAT_URL is called" in line


async def test_doctor_warns_of_a_loop_that_has_never_gone_through(
    environ: dict[str, str], pool: asyncpg.Pool, vault: Vault
) -> None:
    async def line() -> str:
        ran = await tocsin("doctor", environ={**environ, "TOCSIN_HEARTBEAT_EVERY": "30"})
        return next(line for line in ran.out.splitlines() if "inner loop" in line)

    for _ in range(2):
        assert (await line()).startswith("ok")
        async with pool.acquire() as tx, tx.transaction():
            await inner_loop.advance(tx, vault, 0.0, public_url="http://tocsin.test")
    await pool.execute("UPDATE projects SET created_at = created_at - interval '61 s'")
    said = await line()
    assert said.startswith("warn"), "each round begins anew, and none ends"
    assert "has not gone through in the 6" in said


async def test_health_and_metrics_say_when_an_incident_last_went_through_and_nobody_sees_it_elsewhere(
    service_with: Callable[..., Service], receiver: Receiver, database: str
) -> None:
    service = watched(service_with, receiver)
    service.project = await service.new_project()
    await calls_go_on(receiver)
    async with service.client() as client:
        ready = (await client.get("/health/ready")).json()
        lines = (await client.get("/metrics")).text.splitlines()
        for path in ("incidents", "servers", "integrations"):
            assert "inner" not in (await client.get(f"/api/v1/{path}")).text.lower(), path
    age = datetime.now(UTC) - datetime.fromisoformat(ready["worked_at"])
    assert ready["status"] == "ok"
    assert timedelta(seconds=-1) < age < timedelta(seconds=30)
    assert 0 < ready["took_ms"] < 30_000
    assert any(line.startswith("tocsin_inner_loop_last_success_timestamp_seconds 1.") for line in lines)
    assert inner.INTEGRATION_TYPE not in "\n".join(lines)
    assert "tocsin_incidents_ongoing 0.0" in lines
    ran = await tocsin("project", "list", environ=service.environ)
    assert [line.split("  ")[-1] for line in ran.out.splitlines()] == [service.project.name]
    ran = await tocsin("secrets", "rotate", environ=service.environ)
    assert ran.code == 0, ran


async def test_doctor_goes_by_what_the_engines_call_and_not_by_its_own_settings(
    service_with: Callable[..., Service], receiver: Receiver, pool: asyncpg.Pool
) -> None:
    service = service_with(TOCSIN_HEARTBEAT_EVERY=str(EVERY))

    async def worked() -> bool:
        return (await inner_loop.state(pool)).worked_at is not None

    await until(worked, what="a round")
    ran = await tocsin("doctor", environ={**service.environ, "TOCSIN_HEARTBEAT_URL": receiver.url(PATH)})
    line = next(line for line in ran.out.splitlines() if "inner loop" in line)
    assert line.startswith("warn")
    assert "no engine calls TOCSIN_HEARTBEAT_URL" in line or "and not since" in line
    assert receiver.requests == []


# ------------------------------------------------------------------------------------------------- one round, by hand


class Rounds:
    """The loop without an engine: the test carries it on, and delivers."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self.pool, self.vault = pool, vault

    async def look(self, every: float = 30) -> bool:
        async with self.pool.acquire() as tx, tx.transaction():
            await inner_loop.advance(tx, self.vault, every, public_url="http://tocsin.test")
            return await inner_loop.may_call(tx, every, 0.1)

    async def deliver(self) -> None:
        await self.pool.execute(
            """WITH ended AS (DELETE FROM outstanding WHERE blocked_by IS NULL RETURNING *)
               INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status,
                                     attempt, attempts, created_at, finished_at)
               SELECT id, project_id, integration_id, integration_type, incident_id, event, 'delivered', 1, '[]',
                      created_at, now() FROM ended"""
        )

    async def earlier(self, seconds: float) -> None:
        """As if all of this had been so long ago."""
        await self.pool.execute(
            """UPDATE inner_loop SET began_at = began_at - make_interval(secs => $1),
                   worked_at = worked_at - make_interval(secs => $1), called_at = called_at - make_interval(secs => $1)
            """,
            seconds,
        )

    async def round(self) -> None:
        for _ in range(2):
            await self.look()
            await self.deliver()
        await self.look()


async def test_a_round_counts_once_its_end_is_delivered_and_for_a_minute(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    loop = Rounds(pool, vault)
    await app_client.get("/health/live")
    await pool.execute("INSERT INTO api_heartbeat (since, seen_at) VALUES (now(), now() + interval '9 s') "
                       "ON CONFLICT (only_row) DO UPDATE SET seen_at = excluded.seen_at")
    assert not await loop.look()
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 0, "the first round is an interval later"
    await loop.earlier(31)
    for _ in range(3):
        assert not await loop.look()
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1
    await loop.deliver()
    assert not await loop.look()
    assert not await loop.look()
    await loop.deliver()
    assert await loop.look()
    assert not await loop.look(), "the call has been made"
    await pool.execute("UPDATE inner_loop SET called_at = NULL")
    await loop.earlier(55)
    assert await loop.look(), "the last round that went through was less than a minute ago"
    await pool.execute("UPDATE inner_loop SET called_at = NULL")
    await loop.earlier(6)
    assert not await loop.look()


async def test_a_round_that_got_stuck_is_begun_again(pool: asyncpg.Pool, vault: Vault) -> None:
    loop = Rounds(pool, vault)
    await loop.look()
    await loop.earlier(31)
    await loop.look()
    await loop.earlier(61)
    await loop.look()
    assert await pool.fetchval("SELECT incident_id FROM inner_loop") is None
    await loop.look()
    assert await pool.fetchval("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 1
    for _ in range(4):
        await loop.deliver()
        await pool.execute("UPDATE outstanding SET blocked_by = NULL")
        await loop.look()
    assert (await state(pool)).worked_at is not None
    assert await pool.fetchval("SELECT count(*) FROM ongoing") == 0


async def test_a_clock_that_is_behind_that_of_the_last_primary_holds_up_no_round(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    loop = Rounds(pool, vault)
    await pool.execute("INSERT INTO api_heartbeat (since, seen_at) VALUES (now(), now() + interval '9 s') "
                       "ON CONFLICT (only_row) DO UPDATE SET seen_at = excluded.seen_at")
    await loop.look()
    await loop.earlier(31)
    await loop.round()
    await loop.earlier(-300)
    assert not await loop.look(), "nobody is told that all works for minutes"
    assert await pool.fetchval("SELECT count(*) FROM ongoing") == 1, "but it is tried"
    await loop.deliver()
    await loop.look()
    await loop.deliver()
    assert await loop.look()


async def test_rounds_of_long_ago_are_forgotten(pool: asyncpg.Pool, vault: Vault) -> None:
    loop = Rounds(pool, vault)
    await loop.look()
    await loop.earlier(31)
    await loop.round()
    assert await counts(pool) == (1, 2)
    await pool.execute("UPDATE incidents SET id = overlay(id::text PLACING '01900000-0000' FROM 1 FOR 13)::uuid")
    await pool.execute("UPDATE finished SET id = overlay(id::text PLACING '01900000-0000' FROM 1 FOR 13)::uuid")
    await loop.earlier(31)
    await loop.round()
    assert await counts(pool) == (1, 2)


async def counts(pool: asyncpg.Pool) -> tuple[int, int]:
    row: Any = await pool.fetchrow("SELECT (SELECT count(*) FROM incidents), (SELECT count(*) FROM finished)")
    return row[0], row[1]


async def state(pool: asyncpg.Pool) -> inner_loop.State:
    async with pool.acquire() as tx:
        return await inner_loop.state(tx)


async def test_several_engines_make_one_round(pool: asyncpg.Pool, vault: Vault) -> None:
    loop = Rounds(pool, vault)
    await loop.look()
    await loop.earlier(31)
    await asyncio.gather(*(loop.look() for _ in range(5)))
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1
