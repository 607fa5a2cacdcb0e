"""What text messages may cost: so many a day to a number, and for a project."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest_asyncio

from tests.calls import new_server
from tests.service import new_project
from tests.sms_scene import NUMBER, environ, new_phone
from tocsin.domain import ids
from tocsin.domain.deliveries import Suppressed
from tocsin.storage.channels import sms_limits
from tocsin.storage.delivery import deliveries
from tocsin.storage.delivery.queue import Content, Job
from tocsin.storage.postgres.secrets import Vault

__all__ = ["environ"]


def job(project_id: UUID, integration_id: UUID, incident: bool = True) -> Job:
    """A try of a delivery of its own."""
    said = Content(ids.new() if incident else None, "Server", "web-1", "", "cpu", "It broke", datetime.now(UTC), None)
    return Job(ids.new(), project_id, integration_id, 1, True, "opened", 1, 0, False, datetime.now(UTC), said)


@pytest_asyncio.fixture
async def tx(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def test_above_fifty_a_day_to_one_number_none_is_sent_and_people_are_told_once(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, project: Any
) -> None:
    server = await new_server(app_client)
    phone = ids.parse(ids.INTEGRATION, await new_phone(app_client, server))
    body = {"integration": {"type": "Integrations::EmailIntegration", "settings": {"email": "alerts@example.com"}}}
    mail = ids.parse(ids.INTEGRATION, (await app_client.post("/api/v1/integrations", json=body)).json()["uuid"])
    assert phone is not None
    assert mail is not None
    async with pool.acquire() as tx, tx.transaction():
        for _ in range(50):
            assert await sms_limits.check(tx, job(project.id, phone, incident=False), NUMBER) == {}
        for _ in range(3):
            refused = await sms_limits.check(tx, job(project.id, phone, incident=False), NUMBER)
            assert isinstance(refused, Suppressed)
            assert "50 text messages" in refused.reason
        assert await sms_limits.check(tx, job(project.id, phone), "+1234567891") == {}
        told, count = await deliveries.of_integration(tx, project.id, mail, status=None, limit=10, offset=0)
        assert (count, told[0].event) == (1, "notice")
        await tx.execute("UPDATE sms SET at = at - interval '1 day'")
        assert await sms_limits.check(tx, job(project.id, phone), NUMBER) == {}


async def test_a_number_s_day_is_counted_over_all_projects(
    tx: asyncpg.Connection, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    other = await new_project(pool, vault)
    for _ in range(50):
        await sms_limits.check(tx, job(other.id, ids.new(), incident=False), NUMBER)
    assert isinstance(await sms_limits.check(tx, job(project.id, ids.new()), NUMBER), Suppressed)


async def test_above_the_project_s_daily_cap_none_is_sent(tx: asyncpg.Connection, project: Any) -> None:
    for number in range(200):
        assert await sms_limits.check(tx, job(project.id, ids.new(), incident=False), f"+1234567{number:03}") == {}
    refused = await sms_limits.check(tx, job(project.id, ids.new()), NUMBER)
    assert isinstance(refused, Suppressed)
    assert "200 text messages for this project" in refused.reason


async def test_another_try_of_the_same_delivery_counts_once(tx: asyncpg.Connection, project: Any) -> None:
    one = job(project.id, ids.new())
    for _ in range(60):
        assert await sms_limits.check(tx, one, NUMBER) == {}


async def test_what_the_provider_never_took_does_not_count(tx: asyncpg.Connection, project: Any) -> None:
    for _ in range(60):
        one = job(project.id, ids.new(), incident=False)
        assert await sms_limits.check(tx, one, NUMBER) == {}
        await sms_limits.unsent(tx, one.id)
