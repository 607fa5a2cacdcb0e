"""A project with a server in a real database, and engines that deliver of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio

from tests.waiting import until
from tocsin.domain import ids
from tocsin.domain.attachments import Attachment
from tocsin.domain.incidents import Opened, OpenRequest, ResolveRequest, Severity
from tocsin.engine import run as engine
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.settings import Settings
from tocsin.storage.channels import attachments, integrations
from tocsin.storage.delivery import deliveries, incidents, openings
from tocsin.storage.notifying import turns
from tocsin.storage.postgres.secrets import Vault

PUBLIC_URL = "https://tocsin.example.com"
PLAIN = Attachment()


@dataclass
class World:
    """A project with one server, and what a test does to it. Every call is a transaction."""

    pool: asyncpg.Pool
    vault: Vault
    project_id: UUID
    server_id: UUID

    async def attach(self, url: str, how: Attachment = PLAIN, **settings: Any) -> UUID:
        kind = WebhookIntegration()
        async with self.pool.acquire() as tx, tx.transaction():
            made = await integrations.create(
                tx, self.vault, self.project_id, kind.type, integrations.Facts(kind.for_people, kind.repeatable),
                name=None, settings=kind.parse({"webhook_url": url, **settings}), secret=kind.secret_settings,
            )
            await attachments.attach(tx, self.server_id, made.id, how)
        return made.id

    async def attach_mail(self, address: str) -> UUID:
        async with self.pool.acquire() as tx, tx.transaction():
            return await attachments.create_system(tx, self.project_id, address)

    async def open(
        self, *types: str, message: str = "It broke", severity: Severity = "critical"
    ) -> list[Opened]:
        wishes = [
            OpenRequest(self.project_id, "Server", self.server_id, each, message, severity=severity) for each in types
        ]
        async with self.pool.acquire() as tx, tx.transaction():
            found = await openings.open(tx, wishes, public_url=PUBLIC_URL)
        return [each for each in found if isinstance(each, Opened)]

    async def resolve(self, *types: str) -> list[Any]:
        async with self.pool.acquire() as tx, tx.transaction():
            return await incidents.resolve(
                tx, [ResolveRequest(self.project_id, self.server_id, each, "a test") for each in types]
            )

    async def decide(self, later: float = 0) -> int:
        """Decide about what is due so many seconds from now, as an engine does. Returns how many there were."""
        count = 0
        while True:
            async with self.pool.acquire() as tx, tx.transaction():
                now = await tx.fetchval("SELECT now()") + timedelta(seconds=later)
                more = await turns.decide_due(tx, 100, now)
            count += more
            if not more:
                return count

    async def log(self, integration_id: UUID) -> list[deliveries.Delivery]:
        """The integration's deliveries, oldest first."""
        async with self.pool.acquire() as tx:
            found, _ = await deliveries.of_integration(
                tx, self.project_id, integration_id, status=None, limit=5000, offset=0
            )
        return found[::-1]

    async def ended(self, integration_id: UUID, count: int, timeout: float = 15) -> list[deliveries.Delivery]:
        async def look() -> list[deliveries.Delivery] | None:
            found = await self.log(integration_id)
            return found if len([each for each in found if each.finished_at]) >= count else None

        return await until(look, timeout=timeout, what=f"{count} finished deliveries")


@pytest_asyncio.fixture
async def world(pool: asyncpg.Pool, vault: Vault, project: Any) -> World:
    server_id = ids.new()
    await pool.execute(
        """INSERT INTO servers (id, project_id, motherboard_id, hostname, agent_version, alerts)
           VALUES ($1, $2, 'mb', 'web-1', '1', '{}')""",
        server_id, project.id,
    )  # fmt: skip
    return World(pool, vault, project.id, server_id)


@pytest_asyncio.fixture
async def start(settings: Settings, database: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Starts an engine, and stops every one at the end."""
    stop = asyncio.Event()
    running: list[asyncio.Task[None]] = []

    async def begin() -> None:
        running.append(asyncio.create_task(engine.run(settings, database, PUBLIC_URL, stop)))
        connection = await asyncpg.connect(database)
        try:
            count = len(running)

            async def look() -> bool:
                return await connection.fetchval("SELECT count(*) = $1 FROM engines WHERE accepting", count)

            await until(look, what="the engine to accept")
        finally:
            await connection.close()

    yield begin
    stop.set()
    await asyncio.gather(*running)
