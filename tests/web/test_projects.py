"""People in several projects, and in none."""

from __future__ import annotations

import asyncpg
import httpx

from tests.people import account, browse, csrf, sign_in, site
from tests.service import new_project
from tocsin.domain import ids
from tocsin.storage.accounts import accounts
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_people_switch_between_their_projects_and_into_no_other(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    user = await account(pool, vault)
    second, foreign = await new_project(pool, vault), await new_project(pool, vault)
    await pool.execute(accounts.INSERT_MEMBER, second.id, user.id, "reader")
    await sign_in(browse)
    data = {"csrf": await csrf(browse), "project": ids.public(ids.PROJECT, second.id)}
    assert (await browse.post("/projects/switch", data=data)).status_code == 303
    assert await pool.fetchval("SELECT current_project_id FROM users") == second.id
    data["project"] = ids.public(ids.PROJECT, foreign.id)
    assert (await browse.post("/projects/switch", data=data)).status_code == 404


async def test_who_is_in_no_project_is_told_what_to_do(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await pool.execute("DELETE FROM members")
    await sign_in(browse)
    assert (await browse.get("/account")).headers["location"] == "/projects"
    assert "You are not in any project" in (await browse.get("/projects")).text
