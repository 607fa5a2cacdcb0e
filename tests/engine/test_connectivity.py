"""Whether it is us: the engine's own way out is asked before several monitors that fail at once are judged."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from tests.lines import Line, lines
from tests.sites import VAULT
from tests.storage.notifying.family import Family
from tests.waiting import until
from tocsin.checks.base import CheckContext
from tocsin.domain import ids
from tocsin.domain.monitors import MonitorConfig, Result, Target
from tocsin.engine import connectivity, monitor_checks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import downtime, monitors
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import EVERYWHERE, Guard

__all__ = ["lines"]

PUBLIC_URL = "https://tocsin.example.com"
LOOPBACK = Guard([ipaddress.ip_network("127.0.0.0/8")])
DOWN = Result("timeout", "Request timeout after 5 seconds")


def doubting(targets: list[Line]) -> Connectivity:
    context = CheckContext(Dialer(Guard(EVERYWHERE)), monitor_checks.USER_AGENT)
    return Connectivity(connectivity.targets([each.url for each in targets]), context)


@asynccontextmanager
async def checking(pool: asyncpg.Pool, connected: Connectivity) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(monitor_checks.run(pool, VAULT, LOOPBACK, PUBLIC_URL, stop, None, connected)),
        asyncio.create_task(connectivity.run(pool, VAULT, connected, PUBLIC_URL, stop, pause=0.2)),
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def operators(pool: asyncpg.Pool, project_id: UUID) -> None:
    """The project becomes the operator's."""
    user = ids.new()
    await pool.execute(
        "INSERT INTO users (id, email, name, operator, password_hash) VALUES ($1, 'op@example.com', 'Op', true, '')",
        user,
    )
    await pool.execute("INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, 'owner')", project_id, user)


async def watched(pool: asyncpg.Pool, project_id: UUID, sites: list[Line]) -> None:
    for site in sites:
        async with pool.acquire() as tx, tx.transaction():
            wanted = MonitorConfig(site.url, Target(site.url, "tcp", 5.0), interval=0.2, confirmations=2)
            await monitors.create(tx, VAULT, project_id, wanted)


async def incidents(pool: asyncpg.Pool) -> list[tuple[str, bool]]:
    rows = await pool.fetch("SELECT type, closed_at IS NULL AS ongoing FROM incidents ORDER BY type, id")
    return [(row["type"], row["ongoing"]) for row in rows]


def finding(
    pool: asyncpg.Pool, look: Callable[[asyncpg.Pool], Awaitable[Any]], wanted: Callable[[Any], bool]
) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return wanted(await look(pool))

    return found


async def good(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT count(DISTINCT monitor_id) FROM checks WHERE ok"))


async def test_while_there_is_no_way_out_nobody_is_judged_and_the_operator_is_told(
    pool: asyncpg.Pool, project: Any, lines: Callable[[int], Any]
) -> None:
    targets, sites = await lines(2), await lines(4)
    await operators(pool, project.id)
    await watched(pool, project.id, sites)
    connected = doubting(targets)
    async with checking(pool, connected):
        await until(finding(pool, good, lambda count: count == 4))
        for line in (*targets, *sites):
            await line.cut()
        await until(finding(pool, incidents, lambda found: found == [("connectivity", True)]))
        assert connected.away
        checks = await pool.fetchval("SELECT count(*) FROM checks")
        assert await pool.fetchval("SELECT count(*) FROM checks WHERE NOT ok") <= 1
        await targets[1].mend()
        await until(finding(pool, incidents, lambda found: ("connectivity", False) in found))
        # Only now is it known of the sites.
        await until(finding(pool, incidents, lambda found: found.count(("connection_error", True)) == 4))
        assert await pool.fetchval("SELECT count(*) FROM checks") > checks
    monitor = await pool.fetchrow("SELECT name, url, paused FROM network_monitors WHERE own_connectivity")
    assert monitor is not None
    assert tuple(monitor) == ("Tocsin's own connectivity", targets[0].url, True)


async def test_sites_that_fail_while_a_target_answers_are_judged(
    pool: asyncpg.Pool, project: Any, lines: Callable[[int], Any]
) -> None:
    targets, sites = await lines(2), await lines(3)
    await targets[0].cut()
    await watched(pool, project.id, sites)
    connected = doubting(targets)
    async with checking(pool, connected):
        await until(finding(pool, good, lambda count: count == 3))
        assert targets[1].calls == 0, "a target was asked though nothing had failed"
        for site in sites:
            await site.cut()
        await until(finding(pool, incidents, lambda found: found == [("connection_error", True)] * 3))
    assert targets[1].calls >= 1
    assert not connected.away


async def test_one_monitor_that_fails_raises_no_doubt(lines: Callable[[int], Any]) -> None:
    targets = await lines(2)
    for target in targets:
        await target.cut()
    connected = doubting(targets)
    monitor = ids.new()
    assert all([await connected.counts(monitor, DOWN) for _ in range(5)])
    assert not connected.away


async def test_a_thousand_failures_at_once_ask_once(lines: Callable[[int], Any]) -> None:
    targets = await lines(2)
    connected = doubting(targets)
    found = await asyncio.gather(*(connected.counts(ids.new(), DOWN) for _ in range(1_000)))
    assert all(found)
    assert sum(target.calls for target in targets) <= 2


async def test_a_page_that_refuses_us_shows_that_there_is_a_way_to_it(lines: Callable[[int], Any]) -> None:
    assert connectivity.answers(Result("http_status", "Status 403"))
    assert not connectivity.answers(DOWN)


async def test_without_targets_nobody_is_doubted() -> None:
    connected = doubting([])
    assert all([await connected.counts(ids.new(), DOWN) for _ in range(5)])


async def test_servers_have_their_time_to_report_again_after_an_outage_of_ours(
    pool: asyncpg.Pool, project: Any
) -> None:
    family = Family(pool, project.id)
    await family.server("web")
    await pool.execute("UPDATE server_states SET seen_at = now() - interval '1 h', downtime_check_at = now()")
    await pool.execute("INSERT INTO api_heartbeat (since, seen_at) VALUES (now() - interval '1 day', now())")
    async with pool.acquire() as tx, tx.transaction():
        assert (await downtime.check_servers(tx, 10, public_url=PUBLIC_URL, back_for=5.0)).silent == 0
    await pool.execute("UPDATE server_states SET downtime_check_at = now()")
    async with pool.acquire() as tx, tx.transaction():
        assert (await downtime.check_servers(tx, 10, public_url=PUBLIC_URL)).silent == 1
