"""Users as the API makes them and lets them in."""

from __future__ import annotations

import email
from email.message import Message
from email.policy import default
from typing import Any

import asyncpg
import httpx

from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres.secrets import Vault

PASSWORD = "correct horse"
PERSON = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD, "password_confirmation": PASSWORD}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def register(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/api/v1/users", json={"user": {**PERSON, **changes}})


async def sign_in(client: httpx.AsyncClient, address: str = PERSON["email"], password: str = "correct horse") -> str:
    answer = await client.post("/api/v1/users/sign_in", json={"user": {"email": address, "password": password}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def outbox(settings: Settings) -> list[Message]:
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in settings.outbox.glob("*.eml")]


async def token_of(pool: asyncpg.Pool, vault: Vault, project: Any, role: str) -> str:
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, f"{role}@example.com")
        await tx.execute(accounts.INSERT_MEMBER, project.id, user.id, role)
        return str(await sessions.begin(tx, vault, user))
