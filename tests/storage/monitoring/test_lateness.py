"""Heartbeats that are late: found by one look, with credit for silences and for Tocsin's own absence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.storage.delivery.test_plans import scanned
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.heartbeats import HeartbeatConfig, Schedule
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.pings import Ping
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import downtime, heartbeats, lateness, pings
from tocsin.storage.monitoring.heartbeats import Heartbeat
from tocsin.storage.notifying import dependencies, depends_on
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.secrets import Vault

URL = "https://tocsin.example.com"
EVERY_TEN_MINUTES = Schedule(600, grace=300)
TIMES = ("look_at", "due_at", "missed_at", "last_ping_at", "last_success_at")


@dataclass
class Jobs:
    """A project's heartbeats; each call is a transaction, and time passes when it is told to."""

    pool: asyncpg.Pool
    vault: Vault
    project_id: UUID
    listening: bool = True

    async def new(self, schedule: Schedule = EVERY_TEN_MINUTES, name: str = "backup") -> UUID:
        async with self.pool.acquire() as tx, tx.transaction():
            return await heartbeats.create(tx, self.vault, self.project_id, HeartbeatConfig(name, name, schedule))

    async def one(self, job: UUID) -> Heartbeat:
        async with self.pool.acquire() as tx:
            found = await heartbeats.one(tx, self.vault, self.project_id, job)
        assert found is not None
        return found

    async def ping(self, job: UUID, kind: Any = "success", rid: str = "", body: str = "") -> None:
        key = (await self.one(job)).ping_key.replace("-", "")
        async with self.pool.acquire() as tx, tx.transaction():
            await pings.record(tx, self.vault, [Ping(key, None, kind, "GET", None, rid, body)], public_url=URL)

    async def look(self) -> tuple[int, int]:
        if self.listening:
            await self.pool.execute("UPDATE api_heartbeat SET seen_at = now()")
        async with self.pool.acquire() as tx, tx.transaction():
            looked = await lateness.look(tx, 500, public_url=URL)
        return looked.due, looked.opened

    async def pass_time(self, seconds: float, *, listening: bool = True) -> None:
        """Everything that was, was `seconds` earlier; somebody listened all the while, or nobody did."""
        changes = ", ".join(f"{name} = {name} - interval '{seconds} s'" for name in TIMES)
        await self.pool.execute(f"UPDATE heartbeat_states SET {changes}")
        await self.pool.execute(
            "UPDATE heartbeat_states SET runs = coalesce((SELECT jsonb_object_agg(key,"
            " jsonb_build_array((value->>0)::float8 - $1::float8, value->1)) FROM jsonb_each(runs)), '{}')", seconds,
        )  # fmt: skip
        await self.pool.execute(f"UPDATE silence_spans SET span = tstzrange(lower(span) - interval '{seconds} s',"
                                f" upper(span) - interval '{seconds} s')")
        await self.pool.execute(f"UPDATE outages SET began = began - interval '{seconds} s',"
                                f" ended = ended - interval '{seconds} s'")
        earlier = f"since = since - interval '{seconds} s'"
        if not listening:
            earlier += f", seen_at = seen_at - interval '{seconds} s'"
            self.listening = False
        await self.pool.execute(f"UPDATE api_heartbeat SET {earlier}")

    async def ongoing(self) -> dict[str, UUID]:
        rows = await self.pool.fetch("SELECT type, resource_id FROM ongoing")
        return {row["type"]: UUID(str(row["resource_id"])) for row in rows}

    async def silence(self, seconds: float, *, resources: list[UUID] | None = None, **fields: Any) -> None:
        """From now, for so long."""
        columns: Mapping[str, Any] = {"resources": resources, **fields}
        more = "".join(f", {name}" for name in columns)
        values = "".join(f", ${number}" for number in range(3, 3 + len(columns)))
        silence = await self.pool.fetchval(
            f"INSERT INTO silences (id, project_id, name, starts_at, ends_at, expanded_until{more})"
            f" VALUES (new_id(), $1, 'Maintenance', now(), now() + make_interval(secs => $2), now(){values})"
            " RETURNING id", self.project_id, float(seconds), *columns.values(),
        )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO silence_spans VALUES ($1, $2, tstzrange(now(), now() + make_interval(secs => $3)), $4)",
            silence, self.project_id, float(seconds), resources is None,
        )  # fmt: skip


async def listen(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await downtime.record_api_alive(tx)


@pytest_asyncio.fixture
async def jobs(pool: asyncpg.Pool, vault: Vault, project: Any) -> Jobs:
    """Somebody has listened for a day."""
    await listen(pool)
    await pool.execute("UPDATE api_heartbeat SET since = now() - interval '1 day'")
    return Jobs(pool, vault, project.id)


async def test_what_has_not_come_by_due_and_grace_is_missed_and_its_next_success_ends_that(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    assert (await jobs.one(job)).status == "up"
    await jobs.pass_time(610)
    assert (await jobs.one(job)).status == "late"
    assert await jobs.look() == (0, 0)
    await jobs.pass_time(300)
    assert await jobs.look() == (1, 1)
    assert await jobs.ongoing() == {"missed": job}
    assert (await jobs.one(job)).status == "down"
    assert "missed" in REACHABILITY
    await jobs.ping(job)
    assert await jobs.ongoing() == {}
    assert (await jobs.one(job)).status == "up"


async def test_a_job_that_reports_is_looked_at_once_in_its_time(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    for _ in range(3):
        await jobs.pass_time(400)
        await jobs.ping(job)
    assert await jobs.look() == (1, 0)
    assert await jobs.look() == (0, 0)
    assert await jobs.ongoing() == {}


async def test_a_ping_moves_no_index_unless_it_must(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    first = await jobs.pool.fetchval("SELECT look_at FROM heartbeat_states")
    await jobs.pass_time(100)
    await jobs.ping(job)
    assert await jobs.pool.fetchval("SELECT look_at < $1 FROM heartbeat_states", first)
    await jobs.ping(job, "start")  # its end is due before the next success
    assert await jobs.pool.fetchval("SELECT look_at <= now() + interval '300 s' FROM heartbeat_states")


async def test_runs_that_take_too_long_are_told_one_by_one(jobs: Jobs) -> None:
    job = await jobs.new(Schedule(36_000, grace=300))
    first, second = "0" * 8 + "-0000-4000-8000-" + "0" * 12, "1" * 8 + "-0000-4000-8000-" + "0" * 12
    await jobs.ping(job, "start", first)
    await jobs.pass_time(200)
    await jobs.ping(job, "start", second)
    assert (await jobs.one(job)).status == "running"
    await jobs.pass_time(100)
    assert await jobs.look() == (1, 1)
    await jobs.pass_time(200)
    assert await jobs.look() == (1, 1)
    keys = await jobs.pool.fetch("SELECT dedup_key FROM ongoing WHERE type = 'overrun' ORDER BY 1")
    assert [row[0] for row in keys] == [first, second]
    await jobs.ping(job, "success", first)
    assert await jobs.pool.fetchval("SELECT dedup_key FROM ongoing") == second
    await jobs.ping(job)
    assert await jobs.ongoing() == {}


async def test_time_in_a_silence_is_credited(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    await jobs.pass_time(500)
    await jobs.silence(1_100, resources=[job])  # 100 s before it is due until 1,000 s after that
    await jobs.pass_time(1000)
    assert await jobs.look() == (1, 0)
    assert await jobs.look() == (0, 0)
    await jobs.pass_time(200)  # the grace would be over, but 200 s of it are left
    assert (await jobs.look())[1] == 0
    await jobs.pass_time(300)
    assert await jobs.look() == (1, 1)
    assert await jobs.ongoing() == {"missed": job}


async def test_a_silence_of_everything_is_credited_and_one_of_other_types_is_not(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    await jobs.silence(36_000, incident_types=["cpu"])
    await jobs.silence(36_000, severity="warning")
    await jobs.silence(36_000, integrations=[job])
    await jobs.pass_time(910)
    assert await jobs.look() == (1, 1)
    await jobs.ping(job)
    await jobs.silence(36_000)
    await jobs.pass_time(1200)
    assert (await jobs.look())[1] == 0
    assert await jobs.ongoing() == {}
    # looked at again soon, because somebody may end the silence
    assert await jobs.pool.fetchval("SELECT look_at <= now() + interval '61 s' FROM heartbeat_states")


async def test_time_in_which_nobody_listened_is_credited(jobs: Jobs) -> None:
    job = await jobs.new(Schedule(600, grace=2_000))
    await jobs.ping(job)
    await jobs.pass_time(1100)  # 500 s of its grace are over
    await jobs.pass_time(50000, listening=False)
    assert await jobs.look() == (0, 0)
    await listen(jobs.pool)
    jobs.listening = True
    assert await jobs.look() == (1, 0)
    await jobs.pass_time(1200)
    assert await jobs.look() == (0, 0)
    await jobs.pass_time(400)
    assert await jobs.look() == (1, 1)
    assert await jobs.ongoing() == {"missed": job}
    assert await jobs.pool.fetchval("SELECT count(*) FROM outages") == 1


async def test_whoever_could_not_be_reached_credits_that_time_too(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    await jobs.pass_time(3000)
    async with jobs.pool.acquire() as tx, tx.transaction():
        await lateness.record_away(tx, 2_390.0)
    assert await jobs.look() == (1, 0)
    await jobs.pass_time(310)
    assert await jobs.look() == (1, 1)


async def test_a_missed_job_behind_a_router_that_is_down_is_explained_by_it(jobs: Jobs) -> None:
    router, job = await jobs.new(name="router"), await jobs.new()
    async with jobs.pool.acquire() as tx, tx.transaction():
        await depends_on.replace(tx, jobs.project_id, HEARTBEAT, job, [HEARTBEAT.public(router)])
        await openings.open(
            tx, [OpenRequest(jobs.project_id, HEARTBEAT.type, router, "connection_error", "It is down")], public_url=URL
        )
    await jobs.ping(job)
    await jobs.pass_time(910)
    assert await jobs.look() == (1, 1)
    async with jobs.pool.acquire() as tx, tx.transaction():
        why = await dependencies.explanations(tx, [job])
        assert [each.name for each in why[job]] == ["router"]
        await incidents.resolve(tx, [ResolveRequest(jobs.project_id, router, None, "It is back")])
    assert [each.name for each in (await jobs.one(job)).explained_by] == []


async def test_a_paused_job_is_not_judged_and_due_at_a_time_to_come_when_it_is_resumed(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    await jobs.pass_time(910)
    assert await jobs.look() == (1, 1)
    before = (await jobs.one(job)).wanted
    paused = HeartbeatConfig(before.name, before.slug, before.schedule, paused=True)
    async with jobs.pool.acquire() as tx, tx.transaction():
        await heartbeats.change(tx, job, before, paused)
    assert (await jobs.ongoing(), (await jobs.one(job)).status) == ({}, "paused")
    await jobs.pass_time(10000)
    assert await jobs.look() == (0, 0)
    async with jobs.pool.acquire() as tx, tx.transaction():
        await heartbeats.change(tx, job, paused, before)
    assert await jobs.look() == (0, 0)
    assert (await jobs.one(job)).status == "up"
    await jobs.pass_time(910)
    assert await jobs.look() == (1, 1)


async def test_a_deleted_heartbeat_takes_everything_with_it_but_its_pings(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job, "fail", body="it failed")
    async with jobs.pool.acquire() as tx, tx.transaction():
        assert await heartbeats.delete(tx, jobs.project_id, job)
        assert not await heartbeats.delete(tx, jobs.project_id, job)
    assert await jobs.ongoing() == {}
    assert await jobs.pool.fetchval("SELECT count(*) FROM heartbeat_states") == 0
    assert await jobs.pool.fetchval("SELECT count(*) FROM ping_bodies") == 0


async def test_pings_are_dropped_with_raw_history(jobs: Jobs) -> None:
    job = await jobs.new()
    await jobs.ping(job)
    await jobs.pool.execute("INSERT INTO pings (heartbeat_id, at, n, kind) VALUES ($1, now() - interval '60 days', 9,"
                            " 'success')", job)
    await retention.drop_old(jobs.pool, raw_days=30, days=400)
    assert [row["n"] for row in await jobs.pool.fetch("SELECT n FROM pings")] == [1]


# -------------------------------------------------------------------------------------------------------------- plans

STATEMENTS = {
    "find": (pings.FIND, ["'{}'", "'{}'"]),
    "find and lock": (pings.FIND_AND_LOCK, ["'{}'", "'{}'"]),
    "find by slug": (pings.FIND_BY_SLUG, ["'{}'", "'{}'", "'{}'"]),
    "lock": (pings.LOCK, ["'{}'"]),
    "known": (pings.KNOWN, ["'{}'"]),
    "store": (pings.STORE, ["'{}'"] * 20),
    "store bodies": (pings.STORE_BODIES, ["'{}'"] * 4),
    "gather": (pings.GATHER, ["'{}'", "'{}'"]),
    "due": (lateness.DUE, ["500"]),
    "move": (lateness.MOVE, ["'{}'"] * 5),
    "credited": (lateness.CREDITED, ["'{}'"] * 4),
    "newest pings": (pings.LIST, ["'00000000-0000-0000-0000-000000000000'", "25", "0"]),
}
MANY = """
WITH made AS (
    INSERT INTO heartbeats (id, project_id, name, slug, period, timezone, grace, key_hash, key_sealed)
    SELECT new_id(), $1, 'job ' || n, 'job-' || n, 86400, 'UTC', 3600, sha256(n::text::bytea), '' FROM
    generate_series(1, $2::int) n RETURNING id
)
INSERT INTO heartbeat_states (heartbeat_id, look_at, due_at, last_ping_at, last_success_at)
SELECT id, now() + random() * interval '1 day', now() + interval '1 day', now(), now() FROM made
"""


@pytest.mark.parametrize("planned", ["on tables not counted", "on full tables", "on tables known to be empty"])
async def test_no_statement_of_pings_and_looks_reads_a_table_from_end_to_end(jobs: Jobs, planned: str) -> None:
    tables, wrong = "heartbeats, heartbeat_states, pings, ping_bodies, ping_keys, ongoing", {}
    async with jobs.pool.acquire() as connection:
        if planned == "on tables known to be empty":
            await connection.execute(f"VACUUM (ANALYZE) {tables}")
        if planned == "on full tables":
            await connection.execute(MANY, jobs.project_id, 5_000)
            await connection.execute(f"ANALYZE {tables}")
        for name, (statement, values) in STATEMENTS.items():
            await connection.execute(f"PREPARE hot AS {statement}")
            plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE hot ({', '.join(values)})")
            await connection.execute("DEALLOCATE hot")
            found = scanned((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
            if found:
                wrong[name] = found
    assert wrong == {}


async def test_the_look_reads_only_what_is_due(jobs: Jobs) -> None:
    async with jobs.pool.acquire() as connection:
        await connection.execute(MANY, jobs.project_id, 5_000)
        await connection.execute("ANALYZE heartbeat_states")
        await connection.execute(f"PREPARE hot AS {lateness.DUE}")
        lines = await connection.fetch("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE hot (500)")
        await connection.execute("DEALLOCATE hot")
    plan = lines[0][0]
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 20
