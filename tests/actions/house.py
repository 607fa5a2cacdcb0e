"""A project with one of everything, on which each action is tried as each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from tests.postgres import Postgres
from tests.service import KEY
from tocsin import settings as configuration
from tocsin.actions.base import Actor
from tocsin.settings import Settings
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.storage.postgres.secrets import Vault


@dataclass
class House:
    """A project with one of everything, and what an action needs besides."""

    vault: Vault
    project_id: UUID
    owner: UUID
    member: UUID
    other: UUID
    webhook: UUID
    disabled: UUID
    monitor: UUID
    server: UUID
    incident: UUID
    silence: UUID
    settings: Settings


Call = Callable[[Tx, Actor, House], Awaitable[Any]]


def settings_in(folder: Path) -> Settings:
    """With all that an action asks for."""
    slack = {"TOCSIN_SLACK_CLIENT_ID": "1.2", "TOCSIN_SLACK_CLIENT_SECRET": "s", "TOCSIN_SLACK_SIGNING_SECRET": "s"}
    ours = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(folder), "TOCSIN_SECRET_KEYS": KEY}
    return configuration.load(environ={**ours, **slack})


@asynccontextmanager
async def database_of_all(postgres: Postgres) -> AsyncIterator[asyncpg.Pool]:
    """One database for hundreds of tries, each of which is `tried`."""
    database = await postgres.clone()
    pool = await storage.pool(database, size=5, name="tests")
    yield pool
    await pool.close()
    await postgres.drop(database)


@asynccontextmanager
async def tried(pool: asyncpg.Pool) -> AsyncIterator[Tx]:
    """A transaction of which nothing stays, but its constraints have held."""
    try:
        async with transaction(pool) as tx:
            yield tx
            await tx.execute("SET CONSTRAINTS ALL IMMEDIATE")
            raise _Undone
    except _Undone:
        pass


class _Undone(Exception):
    """So that nothing of it stays."""
