"""A probe that is silent is an incident of its project, unless it was us who could not hear it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest_asyncio

from tests.probes import Spoken, new_probe
from tests.waiting import until
from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.engine import probes as engine
from tocsin.storage.monitoring import downtime, probes
from tocsin.storage.postgres.secrets import Vault

PUBLIC_URL = "https://tocsin.example.com"


@pytest_asyncio.fixture
async def wien(pool: asyncpg.Pool, vault: Vault, app_client: httpx.AsyncClient, project: Any) -> Spoken:
    return await new_probe(pool, vault, app_client, project.id, "wien")


async def judged(pool: asyncpg.Pool, back_for: float | None = None) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await probes.judge(tx, public_url=PUBLIC_URL, back_for=back_for)


async def silent(pool: asyncpg.Pool, seconds: float = probes.SILENT_AFTER + 1) -> None:
    """It was heard for the last time so long ago, by a service that is there for an hour."""
    await pool.execute("UPDATE probes SET seen_at = now() - make_interval(secs => $1)", seconds)
    async with pool.acquire() as tx, tx.transaction():
        await downtime.record_api_alive(tx)
    await pool.execute("UPDATE api_heartbeat SET since = now() - interval '1 hour'")


async def incidents(pool: asyncpg.Pool) -> list[tuple[str, bool]]:
    rows = await pool.fetch("SELECT type, closed_at FROM incidents ORDER BY id")
    return [(row["type"], row["closed_at"] is None) for row in rows]


async def test_a_silent_probe_is_an_incident_until_it_is_heard_again(
    wien: Spoken, pool: asyncpg.Pool, project: Any
) -> None:
    await wien.work()
    await silent(pool, probes.SILENT_AFTER - 30)
    await judged(pool)
    assert await incidents(pool) == []
    await silent(pool)
    for _ in range(3):
        await judged(pool)
    assert await incidents(pool) == [("silent", True)]
    row = await pool.fetchrow("SELECT * FROM incidents")
    assert (row["resource_type"], row["resource_id"], row["project_id"]) == ("Probe", wien.id, project.id)
    assert row["resource_name"] == "wien"
    assert row["message"] == "Probe wien has not been heard for 90 seconds: it has no vote until it is."
    assert PROBE.page(wien.id).startswith("/probes/PRB")
    await wien.work()
    await judged(pool)
    assert await incidents(pool) == [("silent", False)]
    assert await pool.fetchval("SELECT resolved_by FROM incidents") == "It is heard again"


async def test_time_in_which_nobody_could_be_heard_does_not_count(wien: Spoken, pool: asyncpg.Pool) -> None:
    await wien.work()
    await silent(pool)
    await pool.execute("UPDATE api_heartbeat SET since = now() - interval '5 s'")
    await judged(pool)
    assert await incidents(pool) == [], "the service was away"
    await silent(pool)
    await judged(pool, back_for=5)
    assert await incidents(pool) == [], "there was no way out"
    await pool.execute("UPDATE api_heartbeat SET seen_at = now() - interval '1 minute'")
    await judged(pool)
    assert await incidents(pool) == [], "nobody takes reports now"


async def test_a_probe_that_was_never_heard_or_is_revoked_is_not_silent(wien: Spoken, pool: asyncpg.Pool) -> None:
    await silent(pool)
    await pool.execute("UPDATE probes SET seen_at = NULL")
    await judged(pool)
    assert await incidents(pool) == []
    await wien.work()
    await silent(pool)
    await judged(pool)
    async with pool.acquire() as tx, tx.transaction():
        await probes.revoke(tx, "wien")
    await judged(pool)
    assert await incidents(pool) == [("silent", False)]


async def test_an_engine_looks_for_silent_probes(wien: Spoken, pool: asyncpg.Pool) -> None:
    await wien.work()
    await silent(pool)
    async with looking(pool):
        await until(lambda: opened(pool), what="the incident")


@asynccontextmanager
async def looking(pool: asyncpg.Pool) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(pool, PUBLIC_URL, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def opened(pool: asyncpg.Pool) -> bool:
    return await incidents(pool) == [("silent", True)]


async def test_who_is_attached_to_a_probe_is_told(
    wien: Spoken, pool: asyncpg.Pool, app_client: httpx.AsyncClient
) -> None:
    wish = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "http://127.0.0.1:9/hook"}}
    made = (await app_client.post("/api/v1/integrations", json={"integration": wish})).json()["uuid"]
    path = f"/api/v1/probes/{PROBE.public(wien.id)}/integrations"
    answer = await app_client.post(path, json={"integration_id": made})
    assert answer.status_code == 201, answer.text
    await wien.work()
    await silent(pool)
    await judged(pool)
    assert await pool.fetchval("SELECT count(*) FROM outstanding WHERE event = 'opened'") == 1
