"""Servers that stop reporting: noticed once, by arrival, and never for a silence that was the service's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.waiting import until
from tocsin.api import server_metrics
from tocsin.domain.reports import Report
from tocsin.engine import downtime as engine
from tocsin.storage.delivery import incidents
from tocsin.storage.monitoring import downtime, servers
from tocsin.storage.monitoring.downtime import DowntimeCheck

URL = "https://tocsin.example.com"

Reporting = Callable[..., Awaitable[UUID]]


@pytest_asyncio.fixture
async def reporting(pool: asyncpg.Pool, project: Any) -> Reporting:
    """Sends a report, and gives the server's key. The service listens."""

    async def report(name: str = "mb") -> UUID:
        async with pool.acquire() as tx, tx.transaction():
            one = Report(project.id, name, {"agent_version": "1"}, [(datetime.now(UTC), {"cpu_used": 1.0})])
            return (await servers.record(tx, [one], public_url=URL))[0].server_id

    await listen(pool)
    await pool.execute("UPDATE api_heartbeat SET since = now() - interval '1 day'")
    return report


async def listen(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await downtime.record_api_alive(tx)


async def check_servers(pool: asyncpg.Pool, limit: int = 500) -> DowntimeCheck:
    async with pool.acquire() as tx, tx.transaction():
        return await downtime.check_servers(tx, limit, public_url=URL)


async def pass_time(pool: asyncpg.Pool, seconds: float, *, listening: bool = True) -> None:
    """Everything that was, was `seconds` earlier; the service listened all the while, or not at all."""
    await pool.execute(
        f"UPDATE server_states SET seen_at = seen_at - interval '{seconds} s',"
        f" downtime_check_at = downtime_check_at - interval '{seconds} s'"
    )
    if not listening:
        await pool.execute(f"UPDATE api_heartbeat SET seen_at = seen_at - interval '{seconds} s'")


async def ongoing(pool: asyncpg.Pool) -> list[tuple[UUID, str]]:
    rows = await pool.fetch(
        "SELECT i.resource_id, i.message FROM ongoing o JOIN incidents i ON i.id = o.incident_id"
        " WHERE o.type = 'downtime'"
    )
    return [tuple(row) for row in rows]


async def test_a_server_that_falls_silent_is_down_and_its_next_report_ends_that(
    pool: asyncpg.Pool, reporting: Reporting
) -> None:
    server = await reporting()
    await pass_time(pool, 179)
    assert await check_servers(pool) == DowntimeCheck(0, 0)
    await pass_time(pool, 1)
    assert await check_servers(pool) == DowntimeCheck(1, 1)
    assert await ongoing(pool) == [(server, "No report for 3 min")]
    await reporting()
    assert await ongoing(pool) == []


async def test_a_server_that_reports_is_looked_at_once_in_its_time_and_not_down(
    pool: asyncpg.Pool, reporting: Reporting
) -> None:
    await reporting()
    await pass_time(pool, 100)
    await reporting()
    await pass_time(pool, 80)
    assert await check_servers(pool) == DowntimeCheck(1, 0)
    assert await check_servers(pool) == DowntimeCheck(0, 0)
    wait = await pool.fetchval("SELECT extract(epoch FROM downtime_check_at - now())::float8 FROM server_states")
    assert 98 < wait <= 100


async def test_a_report_does_not_move_the_time_to_look(pool: asyncpg.Pool, reporting: Reporting) -> None:
    await reporting()
    before = await pool.fetchval("SELECT downtime_check_at FROM server_states")
    await reporting()
    assert await pool.fetchval("SELECT downtime_check_at FROM server_states") == before


async def test_a_service_that_was_down_for_an_hour_blames_no_server(pool: asyncpg.Pool, reporting: Reporting) -> None:
    await reporting()
    await pass_time(pool, 3600, listening=False)
    assert await check_servers(pool) == DowntimeCheck(0, 0)  # the engine is up before the API
    await listen(pool)
    assert await check_servers(pool) == DowntimeCheck(1, 0)
    assert await ongoing(pool) == []


async def test_after_a_break_the_whole_time_is_given_again(pool: asyncpg.Pool, reporting: Reporting) -> None:
    server = await reporting()
    await pass_time(pool, 3600, listening=False)
    await listen(pool)
    await check_servers(pool)
    await pool.execute("UPDATE api_heartbeat SET since = since - interval '180 s'")
    await pass_time(pool, 180)
    assert await check_servers(pool) == DowntimeCheck(1, 1)
    assert await ongoing(pool) == [(server, "No report for 3 min")]


@pytest.mark.parametrize("jump", ["1 hour", "-1 hour"])
async def test_a_clock_that_jumps_is_a_break(pool: asyncpg.Pool, reporting: Reporting, jump: str) -> None:
    await reporting()
    await pool.execute(f"UPDATE api_heartbeat SET seen_at = seen_at - interval '{jump}'")
    await pool.execute("UPDATE server_states SET seen_at = now() - interval '1 hour', downtime_check_at = now()")
    assert await check_servers(pool) == DowntimeCheck(0, 0)
    await listen(pool)
    assert await check_servers(pool) == DowntimeCheck(1, 0)


async def test_a_short_restart_of_the_service_is_no_break(pool: asyncpg.Pool, reporting: Reporting) -> None:
    await reporting()
    since = await pool.fetchval("SELECT since FROM api_heartbeat")
    await pass_time(pool, 9, listening=False)
    await listen(pool)
    assert await pool.fetchval("SELECT since FROM api_heartbeat") == since


async def test_downtime_that_was_resolved_by_hand_is_opened_again_while_it_lasts(
    pool: asyncpg.Pool, project: Any, reporting: Reporting
) -> None:
    server = await reporting()
    await pass_time(pool, 180)
    await check_servers(pool)
    async with pool.acquire() as tx, tx.transaction():
        await incidents.resolve(tx, [incidents.ResolveRequest(project.id, server, None, "a person")])
    assert await check_servers(pool) == DowntimeCheck(0, 0)
    await pass_time(pool, 180)
    assert await check_servers(pool) == DowntimeCheck(1, 1)
    await pass_time(pool, 180)
    assert await check_servers(pool) == DowntimeCheck(1, 1)
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 2


async def test_changed_alerts_count_from_now_on(pool: asyncpg.Pool, project: Any, reporting: Reporting) -> None:
    server = await reporting()

    async def change(downtime: object) -> None:
        async with pool.acquire() as tx, tx.transaction():
            await servers.change_alerts(tx, project.id, server, {"downtime": downtime})

    await change(None)
    assert await check_servers(pool) == DowntimeCheck(1, 0)
    await pass_time(pool, 10**6)
    assert await check_servers(pool) == DowntimeCheck(0, 0)
    await change({"after": 5})
    assert await check_servers(pool) == DowntimeCheck(1, 1)
    assert await ongoing(pool) == [(server, "No report for 5 s")]
    await change(None)
    assert await ongoing(pool) == []


async def test_engines_that_look_at_once_share_the_work(pool: asyncpg.Pool, reporting: Reporting) -> None:
    for number in range(20):
        await reporting(f"mb-{number}")
    await pass_time(pool, 180)
    looks = await asyncio.gather(*(check_servers(pool, 8) for _ in range(5)))
    while (last := await check_servers(pool, 8)).due:
        looks.append(last)
    assert sum(each.silent for each in looks) == 20
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 20


async def test_the_loops_of_both_halves_notice_a_silence_and_stop_when_told(
    pool: asyncpg.Pool, reporting: Reporting
) -> None:
    server = await reporting()
    await pass_time(pool, 3600, listening=False)
    stop = asyncio.Event()
    heartbeat = asyncio.create_task(server_metrics.heartbeat(pool))
    looking = asyncio.create_task(engine.run(pool, URL, stop))

    async def listening() -> bool:
        return bool(await pool.fetchval("SELECT seen_at > now() - interval '5 s' FROM api_heartbeat"))

    await until(listening)
    assert await ongoing(pool) == []
    await pool.execute("UPDATE api_heartbeat SET since = now() - interval '1 hour'")
    await pool.execute("UPDATE server_states SET downtime_check_at = now()")

    async def down() -> bool:
        return await ongoing(pool) == [(server, "No report for 3 min")]

    await until(down)
    stop.set()
    heartbeat.cancel()
    await asyncio.wait_for(looking, 3)


async def test_what_is_due_is_found_by_its_index(pool: asyncpg.Pool, reporting: Reporting) -> None:
    await reporting()
    await pool.execute(
        """INSERT INTO servers (id, project_id, motherboard_id, agent_version, alerts)
        SELECT new_id(), project_id, 'mb-' || n, '1', alerts FROM servers, generate_series(1, 5000) n"""
    )
    await pool.execute(
        """INSERT INTO server_states (server_id, seen_at, downtime_check_at)
        SELECT id, now(), now() + interval '1 hour' FROM servers ON CONFLICT DO NOTHING"""
    )
    await pool.execute("ANALYZE servers, server_states")
    rows = await pool.fetch(f"EXPLAIN (COSTS OFF) {downtime.DUE}", 500, datetime.now(UTC))
    found = "\n".join(row[0] for row in rows)
    assert "server_states_downtime_check" in found, found
    assert "Seq Scan" not in found, found
