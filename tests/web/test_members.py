"""Invitations: who joins by one, as whom, and for how long; and a project that keeps an owner."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.people import ANN, BOB, PASSWORD, account, browse, csrf, csrf_in, invitation, sign_in, site, visitor
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, members
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_who_is_invited_and_new_chooses_a_name_and_a_password_and_is_in_with_that_role(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    project, link = await invitation(pool, vault)
    assert (await browse.get(link)).status_code == 200
    form = {"token": link.partition("token=")[2], "name": "Bob", "password": PASSWORD}
    done = await browse.post("/invitation", data={**form, "password_confirmation": PASSWORD})
    assert done.status_code == 303
    assert project.name in (await browse.get("/account")).text
    async with pool.acquire() as tx:
        _, member = await members.members(tx, project.id)
    assert (member.email, member.role) == (BOB, "reader")
    assert await pool.fetchval("SELECT email_verified_at IS NOT NULL FROM users WHERE email = $1", BOB)
    assert (await browse.get(link)).status_code == 410


async def test_who_is_invited_and_has_an_account_joins_only_as_that_account(
    site: Any, browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault, BOB)
    await account(pool, vault, ANN)
    project, link = await invitation(pool, vault)
    token = link.partition("token=")[2]
    async with visitor(site) as ann:
        await sign_in(ann, ANN)
        await ann.post("/invitation", data={"token": token, "csrf": await csrf(ann)})
    form = {"token": token, "name": "Eve", "password": "battery", "password_confirmation": "battery"}
    await browse.post("/invitation", data=form)
    assert await pool.fetchval("SELECT count(*) FROM members WHERE project_id = $1", project.id) == 1
    await sign_in(browse, BOB)
    done = await browse.post("/invitation", data={"token": token, "csrf": csrf_in(await browse.get(link))})
    assert done.status_code == 303
    assert await pool.fetchval("SELECT count(*) FROM members WHERE project_id = $1", project.id) == 2


async def test_an_invitation_of_somebody_else_says_who_is_signed_in_and_signs_them_out(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault, BOB)
    await account(pool, vault, ANN)
    _, link = await invitation(pool, vault)
    await sign_in(browse, ANN)
    opened = await browse.get(link)
    assert f"You are signed in as {ANN}. This invitation is for {BOB}." in opened.text
    here = f"/invitation?{link.partition('?')[2]}"
    out = await browse.post("/sign-out", data={"csrf": csrf_in(opened), "next": here})
    assert (out.status_code, out.headers["Location"]) == (303, here)
    again = await browse.get(here)
    assert "You are signed in" not in again.text
    assert f"Sign in as {BOB} to join." in again.text


async def test_an_invitation_is_over_when_withdrawn_or_a_week_old(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    _, link = await invitation(pool, vault)
    await pool.execute("UPDATE invitations SET expires_at = now()")
    assert (await browse.get(link)).status_code == 410
    project, link = await invitation(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        (open_one,) = await members.invitations(tx, project.id)
        assert await members.withdraw(tx, project.id, open_one.id) == BOB
    assert (await browse.get(link)).status_code == 410


async def test_a_project_keeps_an_owner(pool: asyncpg.Pool, vault: Vault) -> None:
    ann = await account(pool, vault)
    project_id = await pool.fetchval("SELECT project_id FROM members")
    async with pool.acquire() as tx, tx.transaction():
        for change in (
            members.remove(tx, project_id, ann.id),
            members.set_role(tx, project_id, ann.id, "member"),
        ):
            with pytest.raises(Refused, match="needs an owner"):
                await change
        bob = await accounts.ensure_user(tx, BOB)
        await tx.execute(accounts.INSERT_MEMBER, project_id, bob.id, "owner")
        assert (await members.remove(tx, project_id, ann.id)).email == ANN
