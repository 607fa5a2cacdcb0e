"""From a site that really goes down to the incident, and back: the engine's watching, and the statements behind it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.receivers import Answer, Receiver
from tests.sites import VAULT
from tests.waiting import until
from tocsin.domain.monitors import MonitorConfig, Problem, Result, Target
from tocsin.engine import monitor_checks
from tocsin.storage.monitoring import due_checks, monitors
from tocsin.storage.monitoring.due_checks import CompletedCheck, DueCheck
from tocsin.storage.monitoring.monitors import Monitor
from tocsin.transports.guard import Guard

OPTIONS = ("expected_status", "keyword", "verify_tls")
PUBLIC_URL = "https://tocsin.example.com"
LOOPBACK = Guard([ipaddress.ip_network("127.0.0.0/8")])


def wanted(url: str, **fields: Any) -> MonitorConfig:
    options = {name: fields.pop(name) for name in list(fields) if name in OPTIONS}
    kind = "tcp" if url.startswith("tcp:") else "http"
    target = Target(url, kind, fields.pop("timeout", 5.0), options)
    return MonitorConfig("site", target, **{"interval": 0.1, "confirmations": 2, **fields})


@pytest_asyncio.fixture
async def make(pool: asyncpg.Pool, project: Any) -> Callable[..., Any]:
    async def make(url: str = "http://127.0.0.1:9/", **fields: Any) -> UUID:
        async with pool.acquire() as tx, tx.transaction():
            return await monitors.create(tx, VAULT, project.id, wanted(url, **fields))

    return make


@pytest_asyncio.fixture
async def read(pool: asyncpg.Pool, project: Any) -> Callable[[UUID], Any]:
    async def read(monitor: UUID) -> Monitor:
        async with pool.acquire() as tx:
            found = await monitors.one(tx, VAULT, project.id, monitor)
        assert found
        return found

    return read


@asynccontextmanager
async def watching(pool: asyncpg.Pool, guard: Guard = LOOPBACK) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(monitor_checks.run(pool, VAULT, guard, PUBLIC_URL, stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def is_now(read: Callable[[UUID], Any], monitor: UUID, status: str) -> Monitor:
    async def look() -> Monitor | None:
        found: Monitor = await read(monitor)
        return found if found.status == status else None

    return await until(look, what=f"status {status}")


async def test_a_site_that_goes_down_opens_one_incident_and_coming_back_resolves_it(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[[UUID], Any]
) -> None:
    monitor = await make(receiver.url("/"))
    async with watching(pool):
        fine = await is_now(read, monitor, "success")
        assert fine.last_response_ms is not None
        assert fine.uptime == 100
        receiver.refuse()
        broken = await is_now(read, monitor, "error")
        failed = await pool.fetchval("SELECT count(*) FROM checks WHERE NOT ok")

        async def fails_on() -> bool:
            return bool(await pool.fetchval("SELECT count(*) > $1 FROM checks WHERE NOT ok", failed + 2))

        await until(fails_on)
        assert (await read(monitor)).open_incidents == broken.open_incidents
        receiver.listen()
        await is_now(read, monitor, "success")
    incident = await pool.fetchrow("SELECT * FROM incidents")
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1
    assert (incident["type"], incident["message"]) == ("connection_error", "Connection refused")
    assert (incident["resource_type"], incident["resource_id"]) == ("NetworkMonitor", monitor)
    assert incident["request"] == f"GET {receiver.url('/')}"
    assert incident["request_headers"]["User-Agent"].startswith("Tocsin/")
    assert incident["closed_at"] is not None
    assert (await read(monitor)).uptime < 100


async def test_a_slow_site_delays_no_other(
    pool: asyncpg.Pool, new_receiver: Callable[[], Receiver], make: Callable[..., Any], read: Callable[[UUID], Any]
) -> None:
    slow, quick = new_receiver(), new_receiver()
    slow.otherwise = Answer(how="hang")
    for number in range(monitor_checks.MAX_CONCURRENT + 50):
        await make(slow.url(f"/{number}"), timeout=60.0)
    async with watching(pool):
        await until(lambda: _true(len(slow.requests) >= monitor_checks.MAX_CONCURRENT), what="all places taken")
        monitor = await make(quick.url("/"))
        await is_now(read, monitor, "success")
        assert await pool.fetchval("SELECT count(*) FROM checks WHERE monitor_id <> $1", monitor) == 0


async def _true(value: bool) -> bool:
    return value


async def test_a_monitor_is_not_checked_again_while_its_last_check_lasts(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any]
) -> None:
    receiver.otherwise = Answer(how="hang")
    await make(receiver.url("/slow"), timeout=1.0, interval=0.1)
    await make(receiver.url("/quick"), interval=0.1)
    receiver.answers["/quick"] = Answer()
    async with watching(pool):
        await until(lambda: _true(len(receiver.to("/quick")) >= 4))
        assert len(receiver.to("/slow")) <= 2


async def test_an_address_that_may_not_be_reached_opens_an_incident_that_says_what_the_operator_can_do(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any], read: Callable[[UUID], Any]
) -> None:
    monitor = await make(receiver.url("/"), confirmations=1)
    async with watching(pool, Guard()):
        await is_now(read, monitor, "error")
    message = await pool.fetchval("SELECT message FROM incidents")
    assert message.startswith("The address 127.0.0.1 is not public")
    assert "TOCSIN_ALLOW_NETWORKS" in message
    assert receiver.requests == []


async def test_stopping_does_not_wait_for_slow_sites(
    pool: asyncpg.Pool, receiver: Receiver, make: Callable[..., Any]
) -> None:
    receiver.otherwise = Answer(how="hang")
    await make(receiver.url("/"), timeout=60.0)
    async with watching(pool):
        await receiver.arrivals(1)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2


# ------------------------------------------------------------------------------------------------------------- storage


async def claim(pool: asyncpg.Pool, limit: int = 100) -> list[DueCheck]:
    async with pool.acquire() as tx, tx.transaction():
        return await due_checks.claim_due(tx, VAULT, limit)


async def record(pool: asyncpg.Pool, due: DueCheck, problem: Problem | None = None) -> None:
    result = Result(problem, problem and "It broke", 12.5)
    async with pool.acquire() as tx, tx.transaction():
        await due_checks.record(tx, [CompletedCheck(due, result)], public_url=PUBLIC_URL)


async def make_due(pool: asyncpg.Pool, ago: float = 0.0) -> None:
    await pool.execute("UPDATE monitor_states SET due_at = now() - make_interval(secs => $1)", ago)


async def incidents(pool: asyncpg.Pool) -> list[tuple[str, bool]]:
    rows = await pool.fetch("SELECT type, closed_at IS NULL AS ongoing FROM incidents ORDER BY id")
    return [(row["type"], row["ongoing"]) for row in rows]


async def test_two_engines_never_get_the_same_check(pool: asyncpg.Pool, make: Callable[..., Any]) -> None:
    for _ in range(40):
        await make(interval=60.0)
    await make_due(pool)
    async with pool.acquire() as first, first.transaction(), pool.acquire() as second, second.transaction():
        mine, theirs = await due_checks.claim_due(first, VAULT, 25), await due_checks.claim_due(second, VAULT, 25)
    assert (len(mine), len(theirs)) == (25, 15)
    assert not {due.id for due in mine} & {due.id for due in theirs}


async def test_a_late_monitor_keeps_its_beat_and_makes_up_for_nothing(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(interval=10.0)
    await make_due(pool, ago=34.0)
    was = await pool.fetchval("SELECT due_at FROM monitor_states")
    (due,) = await claim(pool)
    assert due.next_at == was + timedelta(seconds=40)
    assert await claim(pool) == []


async def test_a_check_whose_engine_died_is_due_again_long_before_a_long_interval_ends(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(interval=86_400.0, timeout=20.0)
    await make_due(pool)
    (due,) = await claim(pool)
    assert await pool.fetchval("SELECT due_at - now() < '71 s' FROM monitor_states")
    await record(pool, due)
    assert await pool.fetchval("SELECT due_at FROM monitor_states") == due.next_at


async def test_a_monitor_that_fails_in_another_way_opens_no_second_incident(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(confirmations=1)
    problems: list[Problem | None] = ["timeout", "http_status", "dns_error", None, "keyword"]
    for problem in problems:
        await make_due(pool)
        (due,) = await claim(pool)
        await record(pool, due, problem)
    assert await incidents(pool) == [("timeout", False), ("keyword", True)]


async def test_failures_that_are_not_in_a_row_open_nothing(pool: asyncpg.Pool, make: Callable[..., Any]) -> None:
    await make(confirmations=2)
    problems: list[Problem | None] = ["timeout", None, "timeout", None, "timeout"]
    for problem in problems:
        await make_due(pool)
        (due,) = await claim(pool)
        await record(pool, due, problem)
    assert await incidents(pool) == []


async def test_an_incident_ends_only_after_as_many_good_checks_in_a_row_as_recoveries_says(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(confirmations=1, recoveries=3)
    problems: list[Problem | None] = ["timeout", None, None, "http_status", None, None]
    for problem in problems:
        await make_due(pool)
        (due,) = await claim(pool)
        await record(pool, due, problem)
    assert await incidents(pool) == [("timeout", True)], "a failed check between them starts the count anew"
    await make_due(pool)
    (due,) = await claim(pool)
    await record(pool, due)
    assert await incidents(pool) == [("timeout", False)]
    assert await pool.fetchval("SELECT resolved_by FROM incidents") == "3 checks in a row were good"


async def test_what_was_found_before_a_change_decides_nothing_after_it(
    pool: asyncpg.Pool, project: Any, make: Callable[..., Any]
) -> None:
    monitor = await make(confirmations=1)
    await make_due(pool)
    (due,) = await claim(pool)
    async with pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, project.id, monitor)
        assert before
        await monitors.change(tx, VAULT, project.id, monitor, before, wanted("http://127.0.0.1:10/"))
    await record(pool, due, "timeout")
    assert await incidents(pool) == []
    assert await pool.fetchval("SELECT failures FROM monitor_states") == 0
    assert await pool.fetchval("SELECT count(*) FROM checks") == 1


async def test_a_failure_that_is_recorded_while_its_monitor_is_paused_opens_nothing(
    pool: asyncpg.Pool, project: Any, make: Callable[..., Any]
) -> None:
    monitor = await make(confirmations=1)
    await make_due(pool)
    (due,) = await claim(pool)
    async with pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, project.id, monitor)
        assert before
        await monitors.change(tx, VAULT, project.id, monitor, before, replace(before, paused=True))
        recording = asyncio.create_task(record(pool, due, "timeout"))
        await until(lambda: waits(pool), what="the record waits for the pause")
    await recording
    assert await incidents(pool) == []


async def waits(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_a_check_that_ends_after_a_later_one_decides_nothing(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(confirmations=1)
    await make_due(pool)
    (slow,) = await claim(pool)
    await make_due(pool)
    (quick,) = await claim(pool)
    await record(pool, quick)
    await record(pool, slow, "timeout")
    assert await incidents(pool) == []


async def test_what_is_found_about_a_deleted_monitor_is_dropped(
    pool: asyncpg.Pool, project: Any, make: Callable[..., Any]
) -> None:
    monitor = await make(confirmations=1)
    await make_due(pool)
    (due,) = await claim(pool)
    async with pool.acquire() as tx, tx.transaction():
        assert await monitors.delete(tx, project.id, monitor)
    await record(pool, due, "timeout")
    assert await incidents(pool) == []
    assert await pool.fetchval("SELECT count(*) FROM checks") == 0


# --------------------------------------------------------------------------------------------------------------- plans


def scanned(plan: Any) -> set[str]:
    """The tables that a plan reads from end to end."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(part) for part in plan.get("Plans", [])))


@pytest.mark.parametrize("counted", [False, True], ids=["planned on empty tables", "planned on full tables"])
async def test_claiming_and_recording_look_up_by_key_whatever_the_planner_knows(
    pool: asyncpg.Pool, project: Any, make: Callable[..., Any], counted: bool
) -> None:
    await make()
    connection: asyncpg.Connection
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO network_monitors
                (id, project_id, number, name, url, check_type, interval, timeout, confirmations)
            SELECT new_id(), $1, 10 + n, 'site ' || n, 'http://127.0.0.1:9/' || n, 'http', 60, 30, 2
            FROM generate_series(1, 5000) n
            """,
            project.id,
        )
        await connection.execute(
            "INSERT INTO monitor_states (monitor_id, due_at)"
            " SELECT id, now() - interval '1 s' * random() FROM network_monitors WHERE number > 10"
        )
        if counted:
            await connection.execute("ANALYZE network_monitors, monitor_states")
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        claiming = await explained(connection, due_checks.CLAIM, "200")
        assert scanned(claiming) & {"monitor_states", "network_monitors"} == set()
        recording = await explained(connection, due_checks.RECORD, *["'{}'"] * 10)
        assert scanned(recording) & {"monitor_states", "network_monitors", "ongoing"} == set()


async def explained(connection: asyncpg.Connection, statement: str, *values: str) -> Any:
    """The generic plan, as a prepared statement that has been used often gets it."""
    await connection.execute(f"PREPARE hot AS {statement}")
    plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE hot ({', '.join(values)})")
    await connection.execute("DEALLOCATE hot")
    return (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
