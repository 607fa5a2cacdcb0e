"""What tests of backups are given: one, and what it can be restored into."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.backup_scene import backup
from tests.calls import new_server, new_webhook
from tests.postgres import Postgres, of_database


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "restored"


@pytest_asyncio.fixture
async def saved(environ: dict[str, str], app_client: httpx.AsyncClient, tmp_path: Path) -> Path:
    """A backup of a database with a project and a webhook."""
    await new_webhook(app_client, "http://127.0.0.1:1/hook", await new_server(app_client))
    file = tmp_path / "saved"
    done = await backup(environ, file)
    assert done.code == 0, done.err
    return file


@pytest_asyncio.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """A database without anything in it."""
    name = f"empty_{os.getpid()}"
    await postgres.run(f"CREATE DATABASE {name}")
    yield of_database(postgres.dsn, name)
    await postgres.drop(of_database(postgres.dsn, name))
