"""People at the console: with an account, signed in, invited, with their mails to read."""

from __future__ import annotations

import email
import re
from collections.abc import AsyncIterator
from email.policy import default
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from argon2 import PasswordHasher

from tests.service import PUBLIC_URL, in_this_process, new_project
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, members
from tocsin.storage.postgres.secrets import Vault

ANN, BOB = "ann@example.com", "bob@example.com"
PASSWORD = "correct horse"
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""With the least work that argon2id can be told to take; a hash says how much it took, and its check takes as much."""
PAGE = {"Accept": "text/html,application/xhtml+xml"}
HOME, OFFICE, ELSEWHERE = "192.0.2.1", "198.51.100.7", "203.0.113.9"


def visitor(application: Any, base: str = "http://tocsin.test") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
    return httpx.AsyncClient(base_url=base, transport=transport, headers=PAGE, timeout=20)


def at(site: Any, address: str) -> httpx.AsyncClient:
    """A browser whose connections come from there."""
    transport = httpx.ASGITransport(app=site, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(base_url=PUBLIC_URL, transport=transport, headers=PAGE, timeout=30)


@pytest_asyncio.fixture
async def site(settings: Settings) -> AsyncIterator[Any]:
    async with in_this_process(settings) as front:
        yield front


@pytest_asyncio.fixture
async def browse(site: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(site) as client:
        yield client


async def account(
    pool: asyncpg.Pool, vault: Vault, address: str = ANN, *, role: str = "owner", password_hash: str = PASSWORD_HASH
) -> Any:
    """A user with a password, in a project of their own or, as another role, in one without an owner."""
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.create_user(tx, address, "Ann", password_hash)
        assert user
        await accounts.verify(tx, user.id, user.email)
        await tx.execute(accounts.INSERT_MEMBER, project.id, user.id, role)
    return user


async def sign_in(
    client: httpx.AsyncClient, address: str = ANN, password: str = PASSWORD, **more: str
) -> httpx.Response:
    return await client.post("/sign-in", data={"email": address, "password": password, **more})


def csrf_in(answer: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found, answer.text
    return found[1]


async def csrf(client: httpx.AsyncClient) -> str:
    return csrf_in(await client.get("/account"))


def letters(settings: Settings) -> list[Any]:
    files = sorted(settings.outbox.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in files]


def link_in(letter: Any) -> str:
    return next(line for line in letter.get_content().splitlines() if "token=" in line)


async def invitation(pool: asyncpg.Pool, vault: Vault, address: str = BOB, role: Any = "reader") -> tuple[Any, str]:
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        owner = await accounts.ensure_user(tx, "owner@example.com")
        await tx.execute(accounts.INSERT_MEMBER, project.id, owner.id, "owner")
        made = await members.invite(tx, project.id, address, role, by=owner.id)
    return project, members.link(vault, "http://tocsin.test", made)
