"""Whoever has other keys than the installation is refused in a line, before anything is delivered or sealed."""

from __future__ import annotations

import asyncpg
import pytest

from tests.processes import tocsin
from tests.service import new_project
from tocsin.cli.sockets import free_port
from tocsin.domain import ids
from tocsin.domain import inner_loop as inner
from tocsin.storage.accounts import rotation
from tocsin.storage.delivery import inner_loop
from tocsin.storage.postgres.secrets import Vault, new_key

COMMANDS = (
    ("engine",),
    ("serve", "--port", "{port}"),
    ("up", "--port", "{port}"),
    ("watch-each-other", "http://127.0.0.1:1", "--project", "{project}"),
    ("project", "create", "Another"),
    ("token", "rotate", "{project}"),
    ("probe", "add", "office"),
    ("operator", "link"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
async def test_other_keys_than_the_installations_are_refused_in_a_line(
    environ: dict[str, str], pool: asyncpg.Pool, vault: Vault, command: tuple[str, ...]
) -> None:
    project = await new_project(pool, vault)
    filled = [word.format(port=free_port(), project=ids.public(ids.PROJECT, project.id)) for word in command]
    ran = await tocsin(*filled, environ={**environ, "TOCSIN_SECRET_KEYS": new_key()})
    assert ran.code == 2, ran.err
    wrong = [line for line in ran.err.splitlines() if "TOCSIN_SECRET_KEYS: is of another installation" in line]
    assert wrong, ran.err
    assert vault.key_id in wrong[0]
    assert "Traceback" not in ran.err
    async with pool.acquire() as connection:
        assert await rotation.try_all(connection, vault) == (1, {}), "nothing was sealed with them"


async def test_the_inner_loop_needs_the_installations_keys_as_everybodys_deliveries_do(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await inner_loop.advance(tx, vault, 0.0, public_url="https://tocsin.example.com")
    async with pool.acquire() as tx, tx.transaction():
        await inner_loop.advance(tx, vault, 0.0, public_url="https://tocsin.example.com")
    sealed = await pool.fetchval("SELECT sealed FROM integrations WHERE id = $1", inner.INTEGRATION)
    assert sealed[: len(vault.header)] == vault.header
