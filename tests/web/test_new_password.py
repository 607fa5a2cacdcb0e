"""A new password by mail: once, for an hour, and every session is over."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx

from tests.aged import aged
from tests.people import ANN, BOB, account, browse, letters, link_in, sign_in, site, visitor
from tocsin.settings import Settings
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_a_new_password_by_mail_works_once_and_ends_every_session(
    site: Any, browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, settings: Settings
) -> None:
    await account(pool, vault)
    async with visitor(site) as thief:
        await sign_in(thief)
        known = await browse.post("/forgot-password", data={"email": ANN})
        unknown = await browse.post("/forgot-password", data={"email": BOB})
        assert known.text.replace(ANN, "") == unknown.text.replace(BOB, "")
        (letter,) = letters(settings)
        link = link_in(letter)
        assert (await browse.get(link)).status_code == 200
        form = {"token": link.partition("token=")[2], "password": "battery staple"}
        assert (await browse.post("/new-password", data={**form, "password_confirmation": "other"})).status_code == 422
        form["password_confirmation"] = form["password"]
        assert (await browse.post("/new-password", data=form)).status_code == 303
        assert (await browse.post("/new-password", data=form)).status_code == 410
        assert (await thief.get("/account")).status_code == 303
    assert (await sign_in(browse)).status_code == 422
    assert (await sign_in(browse, password="battery staple")).status_code == 303


async def test_a_link_for_a_new_password_is_over_after_an_hour(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    user = await account(pool, vault)
    token = aged(vault.signer("reset password"), [user.id.hex, ""], days=1)
    assert (await browse.get("/new-password", params={"token": token})).status_code == 410
    assert (await browse.get("/new-password", params={"token": "x"})).status_code == 410
