"""Pings, looks, changes and ends of the same few heartbeats at once: nobody waits in a circle, no state is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg

from tests.storage.monitoring.test_lateness import Jobs, jobs
from tocsin.domain.heartbeats import HeartbeatConfig, Schedule
from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.pings import Ping
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.delivery import incidents
from tocsin.storage.monitoring import heartbeats, lateness, pings
from tocsin.storage.notifying import depends_on
from tocsin.storage.postgres.database import Tx

__all__ = ["jobs"]

SECONDS = 2.0
MANY = 6
URL = "https://tocsin.example.com"


async def test_whatever_happens_to_the_same_heartbeats_at_once_nobody_waits_in_a_circle(jobs: Jobs) -> None:
    chance = random.Random(7)
    made = [await jobs.new(Schedule(1, grace=1), f"job-{number}") for number in range(MANY)]
    keys = {job: (await jobs.one(job)).ping_key.replace("-", "") for job in made}
    async with jobs.pool.acquire() as tx, tx.transaction():
        await depends_on.replace(tx, jobs.project_id, HEARTBEAT, made[1], [HEARTBEAT.public(made[0])])
    counted: dict[UUID, int] = dict.fromkeys(made, 0)
    failures: list[str] = []
    verbs: dict[int, str] = {}
    """What each session does, by its process."""

    async def ping(tx: Tx) -> Callable[[], None]:
        some = [chance.choice(made) for _ in range(chance.randint(1, 8))]
        kinds: Any = [chance.choice(("success", "fail", "start", "log")) for _ in some]
        given = [Ping(keys[job], None, kind, "POST", body="x") for job, kind in zip(some, kinds, strict=True)]
        assert set(await pings.record(tx, jobs.vault, given, public_url=URL)) == {"taken"}

        def count() -> None:
            for job in some:
                counted[job] += 1

        return count

    async def look(tx: Tx) -> None:
        await tx.execute("UPDATE api_heartbeat SET seen_at = now()")
        await lateness.look(tx, 500, public_url=URL)

    async def change(tx: Tx) -> None:
        job = chance.choice(made)
        before = await heartbeats.changing(tx, jobs.project_id, job)
        assert before is not None
        after = HeartbeatConfig(before.name, before.slug, before.schedule, paused=chance.random() < 0.3)
        await heartbeats.change(tx, job, before, after)

    async def end(tx: Tx) -> None:
        some = sorted(chance.sample(made, 3))
        await incidents.resolve(tx, [ResolveRequest(jobs.project_id, job, None, "Ann") for job in some])

    async def hand(do: Callable[[Tx], Awaitable[Callable[[], None] | None]], until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            try:
                async with jobs.pool.acquire() as tx, tx.transaction():
                    verbs[tx.get_server_pid()] = do.__name__
                    done = await do(tx)
                if done is not None:
                    done()
            except asyncpg.DeadlockDetectedError as error:
                failures.append(f"{do.__name__}: {error.detail} {verbs}")

    until = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(hand(do, until) for do in (ping, ping, look, change, end)))
    assert failures == []
    stored = await jobs.pool.fetch("SELECT heartbeat_id, pings FROM heartbeat_states")
    gathered = await jobs.pool.fetch("SELECT heartbeat_id, sum(count) AS count FROM pings WHERE n = 0 GROUP BY 1")
    more = {row["heartbeat_id"]: row["count"] for row in gathered}
    assert {row["heartbeat_id"]: row["pings"] + more.get(row["heartbeat_id"], 0) for row in stored} == counted
    assert sum(counted.values()) > 10
