"""Whoever knows the old password is out from the moment at which another is set, however much was under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest

from tests.people import ANN, HOME, OFFICE, PASSWORD, account, at, csrf, invitation, letters, link_in, sign_in, site
from tests.users import bearer, register
from tests.waiting import until
from tocsin.actions import people
from tocsin.actions.base import INSTALLATION, Actor, system
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, passwords, sessions
from tocsin.storage.accounts.accounts import User
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

__all__ = ["site"]

NEW = "battery staple"
CHOSEN = {"password": NEW, "password_confirmation": NEW}

WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def waiting(pool: asyncpg.Pool, number: int) -> None:
    async def they_do() -> bool:
        return bool(await pool.fetchval(WAITING) == number)

    await until(they_do, what="whoever waits for the account")


async def by_api(client: httpx.AsyncClient, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/v1/users/sign_in", json={"user": {"email": ANN, "password": password}})


async def test_what_a_password_was_right_for_is_not_written_once_there_is_another(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        checked = await accounts.user_by_email(tx, ANN)
        assert checked
        ann = Actor(INSTALLATION, "person", checked.id, user_id=checked.id)
        token = await sessions.begin(tx, vault, checked)
        assert token
        session = await sessions.session_of_token(tx, vault, token)
        assert session
        claimed = await people.take_over(tx, system(), vault, checked.id, ANN, "another")
        assert claimed
        assert claimed.password_hash == "another"
        assert await sessions.begin(tx, vault, checked) is None
        mine = session.session_id
        assert not await people.change_password(tx, ann, checked, "a third", mine, "tries")
        assert not await people.change_password(tx, ann, claimed, "a third", mine, "tries"), "its session is over"
        assert await tx.fetchval("SELECT password_hash FROM users") == "another"
        assert await tx.fetchval("SELECT count(*) FROM user_tokens") == 0
        assert await sessions.begin(tx, vault, claimed)


async def test_who_was_let_in_by_the_old_password_waits_for_the_new_one_and_stays_out(
    site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    user = await account(pool, vault)
    async with at(site, HOME) as stranger, at(site, OFFICE) as other:
        await sign_in(stranger)
        third = {"password": "a third", "password_confirmation": "a third"}
        change = {"csrf": await csrf(stranger), "old": PASSWORD, **third}
        async with pool.acquire() as tx, tx.transaction():
            assert await people.take_over(tx, system(), vault, user.id, ANN, passwords.hash_now(NEW))
            under_way = [
                asyncio.create_task(each)
                for each in (by_api(other), sign_in(other), stranger.post("/account/password", data=change))
            ]
            await waiting(pool, 3)
        answers = await asyncio.gather(*under_way)
        assert [each.status_code for each in answers] == [401, 422, 422]
        assert await pool.fetchval("SELECT count(*) FROM user_tokens") == 0
        assert (await by_api(other, NEW)).status_code == 200


async def claimed(tx: Tx, vault: Vault, user: User) -> None:
    assert await people.take_over(tx, system(), vault, user.id, user.email, "another")


async def made_owner(tx: Tx, vault: Vault, user: User) -> None:
    await accounts.create_project(tx, vault, "Shop", "paid", user.email)


@pytest.mark.parametrize("taken", [claimed, made_owner])
async def test_a_session_that_begins_just_before_ends_with_all_others(
    pool: asyncpg.Pool, vault: Vault, taken: Callable[[Tx, Vault, User], Awaitable[None]]
) -> None:
    user = await account(pool, vault)
    await pool.execute("UPDATE users SET email_verified_at = NULL")

    async def take() -> None:
        async with pool.acquire() as tx, tx.transaction():
            await taken(tx, vault, user)

    async with pool.acquire() as tx, tx.transaction():
        assert await sessions.begin(tx, vault, user)
        taking = asyncio.create_task(take())
        await waiting(pool, 1)
    await taking
    assert await pool.fetchval("SELECT count(*) FROM user_tokens") == 0


async def at_once(site: Any, claim: Callable[[], Awaitable[httpx.Response]]) -> list[httpx.Response]:
    """What eight who know the old password get from eight networks while the owner sets another in their midst."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(at(site, f"203.0.113.{number}")) for number in range(8)]
        tries = [by_api(each) if number % 2 else sign_in(each) for number, each in enumerate(clients)]
        done = await asyncio.gather(*tries[:3], claim(), *tries[3:])
    assert done.pop(3).status_code < 400
    return done


@pytest.mark.parametrize("way", ["/verify-email/password", "/new-password", "/invitation"])
async def test_of_all_who_sign_in_beside_a_new_password_nobody_stays_in(
    site: Any, settings: Settings, pool: asyncpg.Pool, vault: Vault, way: str
) -> None:
    _, link = await invitation(pool, vault, ANN)
    async with at(site, HOME) as owner:
        await register(owner)
        if way != "/invitation":
            await owner.post("/forgot-password", data={"email": ANN})
            link = next(each for each in map(link_in, letters(settings)) if way.removesuffix("/password") in each)
        form = {"token": link.partition("token=")[2], "name": "Ann", **CHOSEN}
        done = await at_once(site, lambda: owner.post(way, data=form))
        for each in done:
            if each.status_code == 200:
                token = each.json()["token"]
                assert (await owner.get("/api/v1/projects", headers=bearer(token))).status_code == 401
        left = await pool.fetchval("SELECT count(*) FROM user_tokens")
        assert left == (1 if way == "/invitation" else 0), "whoever accepts an invitation is in"
        assert (await by_api(owner)).status_code == 401
        assert (await by_api(owner, NEW)).status_code == 200


async def test_of_many_changes_with_the_same_old_password_one_succeeds(
    site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    async with at(site, HOME) as ann, AsyncExitStack() as stack:
        await sign_in(ann)
        mark = await csrf(ann)

        async def change(number: int) -> httpx.Response:
            client = await stack.enter_async_context(at(site, f"203.0.113.{number}"))
            client.cookies = ann.cookies
            new = f"battery {number}"
            form = {"csrf": mark, "old": PASSWORD, "password": new, "password_confirmation": new}
            return await client.post("/account/password", data=form)

        done = await asyncio.gather(*map(change, range(8)))
        assert sorted(each.status_code for each in done) == [303, *[422] * 7]
        new = next(f"battery {number}" for number, each in enumerate(done) if each.status_code == 303)
        assert (await by_api(ann, new)).status_code == 200
