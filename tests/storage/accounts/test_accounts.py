"""Projects, tokens and users as they are stored."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx

from tests.service import new_project
from tests.users import PERSON, bearer, register, sign_in
from tocsin.storage.accounts import accounts, passwords, throttle
from tocsin.storage.accounts.passwords import Requester
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.secrets import Vault


async def test_a_token_is_nowhere_in_the_database_in_clear(pool: asyncpg.Pool, vault: Vault) -> None:
    project = await new_project(pool, vault)
    rows = [dict(row) for row in await pool.fetch("SELECT * FROM projects")]
    assert project.api_token.encode() not in b"".join(v for row in rows for v in row.values() if isinstance(v, bytes))
    assert project.api_token not in repr(rows)


async def test_a_projects_token_leads_to_the_project_until_it_is_replaced(pool: asyncpg.Pool, vault: Vault) -> None:
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        assert await accounts.caller_of_token(tx, vault, project.api_token) == accounts.TokenOwner(
            None, project.id, "paid", "owner"
        )
        replaced = await accounts.rotate_token(tx, vault, project.id)
        assert replaced
        assert await accounts.caller_of_token(tx, vault, project.api_token) is None
        found = await accounts.caller_of_token(tx, vault, replaced.api_token)
        assert found
        assert found.project_id == project.id


async def test_tokens_of_before_a_change_of_keys_work_and_can_be_shown(pool: asyncpg.Pool) -> None:
    old, new = b"o" * 32, b"n" * 32
    async with pool.acquire() as tx, tx.transaction():
        project = await accounts.create_project(tx, Vault([old]), "Shop", "free", "ann@example.com")
        user = await accounts.user_by_email(tx, "ann@example.com")
        assert user
        both = Vault([new, old])
        assert await accounts.caller_of_token(tx, both, project.api_token)
        assert [each.api_token for each in await accounts.projects_of(tx, both, user.id)] == [project.api_token]


async def test_an_owner_becomes_a_user_with_a_system_integration(pool: asyncpg.Pool, vault: Vault) -> None:
    first = await new_project(pool, vault, owner_email="Ann@example.com")
    second = await new_project(pool, vault, owner_email="ann@EXAMPLE.com")
    assert await pool.fetchval("SELECT count(*) FROM users") == 1
    rows = await pool.fetch("SELECT project_id, settings->>'email' AS email, system, attach_all FROM integrations")
    assert {row["project_id"] for row in rows} == {first.id, second.id}
    assert {row["email"] for row in rows} == {"Ann@example.com"}
    assert all(row["system"] and row["attach_all"] for row in rows)


async def test_a_stranger_who_took_an_address_first_does_not_get_into_its_owners_project(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await register(app_client)
    token = await sign_in(app_client)
    await new_project(pool, vault, owner_email=PERSON["email"])
    assert (await app_client.get("/api/v1/projects", headers=bearer(token))).status_code == 401
    answer = await app_client.post("/api/v1/users/sign_in", json={"user": PERSON})
    assert answer.status_code == 401


async def test_the_first_operator_is_made_once(pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as tx, tx.transaction():
        made = await accounts.create_operator(tx, vault, "operator", passwords.hash_now("secret"), "First project")
        again = await accounts.create_operator(tx, vault, "operator", passwords.hash_now("secret"), "First project")
    assert made
    assert made.plan == "paid"
    assert again is None


async def test_a_password_matches_only_itself() -> None:
    requester = Requester("192.0.2.1", False, asyncio.Event().wait)  # type: ignore[arg-type]  # who stays
    password_hash = await passwords.hash_of("correct horse", requester)
    assert await passwords.matches(password_hash, "correct horse", requester)
    assert not await passwords.matches(password_hash, "correct hors", requester)
    assert not await passwords.matches(None, "correct horse", requester)
    assert not await passwords.matches("no hash", "correct horse", requester)


async def test_a_limit_lets_so_many_through_and_says_how_long_to_wait(pool: asyncpg.Pool) -> None:
    limit = Limit(3, 300)
    async with pool.acquire() as tx, tx.transaction():
        waits = [await throttle.take(tx, "x", limit) for _ in range(4)]
        assert waits[:3] == [0, 0, 0]
        assert 90 < waits[3] <= 100
        assert await throttle.take(tx, "y", limit) == 0
        await throttle.give_back(tx, "x")
        assert await throttle.take(tx, "x", limit) == 0


async def test_a_limit_holds_against_tries_at_the_same_moment(pool: asyncpg.Pool) -> None:
    async def take() -> float:
        async with pool.acquire() as tx, tx.transaction():
            return await throttle.take(tx, "x", Limit(3, 300))

    waits = await asyncio.gather(*(take() for _ in range(10)))
    assert sum(wait == 0 for wait in waits) == 3


async def test_used_up_limits_of_long_ago_do_not_pile_up(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as tx:
        for number in range(5):
            await throttle.take(tx, f"old {number}", Limit(1, 0.001))
        await tx.execute("UPDATE throttles SET free_again = now() - interval '1 s'")
        await throttle.take(tx, "new", Limit(1, 100))
        assert await tx.fetchval("SELECT count(*) FROM throttles") == 1
