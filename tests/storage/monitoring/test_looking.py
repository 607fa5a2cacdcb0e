"""What pages read: servers a page at a time, the hours of a server, the checks of a monitor, the incidents of both."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.service import new_project
from tests.sites import VAULT
from tocsin.domain import ids
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.reports import Report
from tocsin.storage.monitoring import checks, monitors, resources, samples, server_list, servers
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.secrets import Vault

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


async def reported(pool: asyncpg.Pool, project_id: UUID, *names: str) -> dict[str, UUID]:
    """Servers of these names, each with a CPU of 50 percent now."""
    at = datetime.now(UTC)
    reports = [
        Report(project_id, f"board of {name}", {"hostname": name, "agent_version": "1"}, [(at, {"cpu_used": 50.0})])
        for name in names
    ]
    async with pool.acquire() as tx, tx.transaction():
        recorded = await servers.record(tx, reports, public_url="http://tocsin.test")
    return {name: each.server_id for name, each in zip(names, recorded, strict=True)}


async def opened(pool: asyncpg.Pool, project_id: UUID, resource_id: UUID, began: datetime) -> UUID:
    """An incident that began then and lasts."""
    new = ids.new()
    await pool.execute(
        "INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, message,"
        " created_at, updated_at) VALUES ($1, $2, 'Server', $3, 'n', 'u', 'cpu', 'm', $4, $4)",
        new, project_id, resource_id, began,
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO ongoing (resource_id, type, incident_id, project_id, recipients) VALUES ($1, 'cpu', $2, $3, '{}')",
        resource_id, new, project_id,
    )  # fmt: skip
    return new


async def test_servers_in_trouble_come_first_then_all_by_name(pool: asyncpg.Pool, project: Any, vault: Vault) -> None:
    there = await reported(pool, project.id, "web-2", "web-10", "Alpha")
    there |= await reported(pool, project.id, "db")
    other = await new_project(pool, vault)
    await reported(pool, other.id, "web-of-others")
    await opened(pool, project.id, there["web-2"], NOW)
    async with pool.acquire() as tx:
        found = await server_list.page(tx, project.id, search="", limit=10, offset=0)
        assert [each.server.hostname for each in found] == ["web-2", "Alpha", "db", "web-10"]
        assert [list(each.ongoing) for each in found] == [["cpu"], [], [], []]
        assert found[0].server.last_metrics["cpu_used"][0] == 50.0
        found = await server_list.page(tx, project.id, search="WEB", limit=1, offset=1)
        assert [each.server.hostname for each in found] == ["web-10"]
        assert await server_list.one(tx, other.id, there["db"]) is None
        one = await server_list.one(tx, project.id, there["db"])
        assert one
        assert (one.server.hostname, datetime.now(UTC) - one.seen_at < timedelta(minutes=1)) == ("db", True)
        assert [each.server.hostname for each in await server_list.newest(tx, project.id, limit=1)] == ["db"]


async def test_a_page_of_ten_thousand_servers_is_one_quick_statement(pool: asyncpg.Pool, project: Any) -> None:
    await pool.execute(
        "INSERT INTO servers (id, project_id, motherboard_id, hostname, agent_version, alerts)"
        " SELECT new_id(), $1, n, 'host-' || n, '1', '{}' FROM generate_series(1, 10000) n",
        project.id,
    )
    await pool.execute(
        "INSERT INTO server_states (server_id, seen_at, downtime_check_at) SELECT id, now(), now() FROM servers"
    )
    async with pool.acquire() as tx:
        started = datetime.now(UTC)
        found = await server_list.page(tx, project.id, search="", limit=50, offset=5_000)
        took = datetime.now(UTC) - started
        plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN {server_list.PAGE}", project.id, "", 50, 0))
    assert len(found) == 50
    assert took < timedelta(seconds=1)
    assert "Seq Scan on server_states" not in plan, plan
    assert "Seq Scan on ongoing" not in plan, plan


async def test_long_ranges_are_read_from_hours_and_what_came_since(pool: asyncpg.Pool, project: Any) -> None:
    (server_id,) = (await reported(pool, project.id, "web")).values()
    await pool.execute("DELETE FROM samples")
    for hours_ago, values in ((15, (10.0, 30.0)), (14, (50.0,)), (0, (70.0, 90.0))):
        for place, value in enumerate(values):
            at = NOW - timedelta(hours=hours_ago) + timedelta(seconds=place)
            row = "INSERT INTO samples (server_id, at, cpu_used) VALUES ($1, $2, $3)"
            await pool.execute(row, server_id, at, value)
    async with pool.acquire() as tx:
        await retention.ensure_partitions(tx)

    async def means() -> list[float]:
        async with pool.acquire() as tx:
            found = await samples.hours(
                tx, server_id, NOW - timedelta(days=7), NOW + timedelta(hours=1), metrics={"cpu_used"}, resolution=3_600
            )
        return [point.value for point in found]

    assert await means() == [20.0, 50.0, 80.0], "before anything was gathered"
    await retention.roll_up(pool)
    assert await means() == [20.0, 50.0, 80.0]
    await pool.execute("DELETE FROM samples WHERE at < $1", NOW)
    assert await means() == [20.0, 50.0, 80.0], "when the raw ones are gone"
    late = "INSERT INTO samples (server_id, at, cpu_used) VALUES ($1, $2, 40.0)"
    await pool.execute(late, server_id, NOW - timedelta(hours=3))
    assert await means() == [20.0, 50.0, 40.0, 80.0], "what arrived late is there at once"


async def test_the_incidents_of_a_resource_are_found_among_all(
    pool: asyncpg.Pool, project: Any, vault: Vault
) -> None:
    there = await reported(pool, project.id, "web", "db")
    lasting = await opened(pool, project.id, there["web"], NOW - timedelta(days=3))
    await opened(pool, project.id, there["db"], NOW)
    other = await new_project(pool, vault)
    async with pool.acquire() as tx:
        (one,) = await resources.incidents_of(tx, project.id, there["web"], since=NOW)
        assert (one.id, one.closed_at) == (lasting, None)
        assert await resources.incidents_of(tx, other.id, there["web"], since=NOW) == []
        await tx.execute("UPDATE incidents SET closed_at = $1", NOW - timedelta(days=2))
        assert await resources.incidents_of(tx, project.id, there["web"], since=NOW - timedelta(days=1)) == []
        plan = await tx.fetch(f"EXPLAIN {resources.PAST}", project.id, there["web"], NOW, 100)
    assert "_resource_id_id_idx" in "\n".join(row[0] for row in plan)


@pytest.fixture
async def monitor(pool: asyncpg.Pool, project: Any) -> UUID:
    async with pool.acquire() as tx, tx.transaction():
        wanted = MonitorConfig("site", Target("http://127.0.0.1:9/", "http", 30.0), paused=True)
        return await monitors.create(tx, VAULT, project.id, wanted)


async def checked(pool: asyncpg.Pool, monitor_id: UUID, at: datetime, response_ms: float | None) -> None:
    await pool.execute(
        "INSERT INTO checks (monitor_id, at, ok, response_ms, message) VALUES ($1, $2, $3, $4, $5)",
        monitor_id, at, response_ms is not None, response_ms, None if response_ms else "Connection refused",
    )  # fmt: skip


async def test_the_latest_checks_of_many_monitors_come_at_once(pool: asyncpg.Pool, monitor: UUID) -> None:
    for minute in range(5):
        await checked(pool, monitor, NOW - timedelta(minutes=minute), None if minute == 1 else 10.0 * minute + 1)
    nobody = ids.new()
    async with pool.acquire() as tx:
        found = await checks.latest(tx, [monitor, nobody], each=3)
        assert await checks.latest(tx, [], each=3) == {}
    assert [check.response_ms for check in found[monitor]] == [1.0, None, 21.0]
    assert found[monitor][1].message == "Connection refused"
    assert found[nobody] == []


async def test_response_times_are_the_same_before_and_after_hours_were_gathered(
    pool: asyncpg.Pool, monitor: UUID
) -> None:
    for minute, value in ((-130, 10.0), (-129, 20.0), (-128, None), (-10, 40.0), (0, 50.0)):
        await checked(pool, monitor, NOW + timedelta(minutes=minute), value)
    start = NOW - timedelta(days=7)

    async def means() -> list[float]:
        async with pool.acquire() as tx:
            times = await checks.response_times(tx, monitor, start, NOW, resolution=3_600)
        return [value for _, value in times]

    assert await means() == [15.0, 40.0, 50.0]
    async with pool.acquire() as tx:
        fine = await checks.response_times(tx, monitor, start, NOW, resolution=60)
        await retention.ensure_partitions(tx)
    assert [value for _, value in fine] == [10.0, 20.0, 40.0, 50.0]
    await retention.roll_up(pool)
    assert await means() == [15.0, 40.0, 50.0]


def _midnights(around: datetime, zone: str) -> list[datetime]:
    first = around.astimezone(ZoneInfo(zone)).date() - timedelta(days=9)
    return [datetime.combine(first + timedelta(days=number), time(), ZoneInfo(zone)) for number in range(12)]


async def test_uptime_by_day_goes_by_the_readers_days(pool: asyncpg.Pool, monitor: UUID) -> None:
    midnight = NOW.replace(hour=0) - timedelta(days=2)
    await checked(pool, monitor, midnight - timedelta(minutes=30), 5.0)
    await checked(pool, monitor, midnight + timedelta(minutes=30), None)
    async with pool.acquire() as tx:
        utc = await checks.days(tx, monitor, _midnights(midnight, "UTC"))
        east = await checks.days(tx, monitor, _midnights(midnight, "Asia/Tokyo"))
    assert utc == {(midnight - timedelta(days=1)).date(): 100.0, midnight.date(): 0.0}
    assert east == {midnight.astimezone(ZoneInfo("Asia/Tokyo")).date(): 50.0}
