"""The first start: the operator's link, and the account that it sets up."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.people import ANN, PASSWORD, browse, letters, site
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


@pytest.fixture
async def operator_link(pool: asyncpg.Pool, vault: Vault) -> str:
    async with pool.acquire() as tx, tx.transaction():
        await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
        link = await operator.new_link(tx, vault, "http://tocsin.test")
    assert link
    return link


NEW = {"email": ANN, "name": "Ann", "password": PASSWORD, "password_confirmation": PASSWORD}


async def test_the_operator_sets_the_account_up_by_the_link_and_is_in(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, operator_link: str, settings: Settings
) -> None:
    token = operator_link.partition("token=")[2]
    assert (await browse.get(operator_link)).status_code == 200
    assert (await browse.get(operator_link)).status_code == 200, "looking uses nothing up"
    done = await browse.post("/welcome", data={"token": token, **NEW})
    assert (done.status_code, done.headers["location"]) == (303, "/integrations")
    assert "First project" in (await browse.get("/account")).text
    assert await pool.fetchval("SELECT settings->>'email' FROM integrations WHERE system") == ANN
    (letter,) = letters(settings)
    assert letter["To"] == ANN


async def test_the_operators_link_works_once_and_for_an_hour_and_is_nowhere_in_clear(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, operator_link: str
) -> None:
    token = operator_link.partition("token=")[2]
    assert token.encode() not in await pool.fetchval("SELECT hash FROM operator_links")
    wrong = await browse.post("/welcome", data={"token": token, **NEW, "password": "short"})
    assert wrong.status_code == 422
    await pool.execute("UPDATE operator_links SET expires_at = now() - interval '1 s'")
    assert (await browse.post("/welcome", data={"token": token, **NEW})).status_code == 410
    await pool.execute("UPDATE operator_links SET expires_at = now() + interval '1 hour'")
    assert (await browse.post("/welcome", data={"token": token, **NEW})).status_code == 303
    assert (await browse.post("/welcome", data={"token": token, **NEW})).status_code == 410
    assert (await browse.get(operator_link)).status_code == 410
