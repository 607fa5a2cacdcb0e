"""Signing in and out: led there and back, limited, by a cookie out of reach."""

from __future__ import annotations

import re
from html import unescape

import asyncpg
import httpx
import pytest

from tests.people import ANN, BOB, account, browse, csrf, sign_in, site, visitor
from tests.service import in_this_process
from tocsin.settings import Settings
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_who_is_not_signed_in_is_led_there_and_back(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    sent = await browse.get("/account?x=1")
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?next=%2Faccount%3Fx%3D1")
    form = await browse.get(sent.headers["location"])
    back = re.search(r'name="next" value="([^"]+)"', form.text)
    assert back
    done = await sign_in(browse, next=unescape(back[1]))
    assert (done.status_code, done.headers["location"]) == (303, "/account?x=1")


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "javascript:x"])
async def test_nobody_is_led_to_another_site(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, to: str
) -> None:
    await account(pool, vault)
    assert (await sign_in(browse, next=to)).headers["location"] == "/"


async def test_a_wrong_password_says_nothing_of_who_has_an_account(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    wrong, unknown = await sign_in(browse, password="wrong horse"), await sign_in(browse, BOB)
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.text.replace(ANN, "") == unknown.text.replace(BOB, "")
    assert "set-cookie" not in wrong.headers


async def test_tries_at_one_account_are_limited_by_form_and_api_together(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    for _ in range(5):
        await sign_in(browse, password="wrong horse")
        user = {"email": ANN.upper(), "password": "wrong horse"}
        await browse.post("/api/v1/users/sign_in", json={"user": user})
    assert (await sign_in(browse)).status_code == 429


async def test_the_cookie_is_out_of_reach_of_scripts_and_secure_exactly_with_https(
    settings: Settings, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    for url in ("http://tocsin.test", "https://tocsin.test"):
        async with in_this_process(settings, url) as front, visitor(front, url) as client:
            cookie = (await sign_in(client)).headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=lax" in cookie
            assert ("secure" in cookie) == url.startswith("https")
            assert cookie.startswith("__host-") == url.startswith("https")
            assert (await client.get("/account")).status_code == 200


async def test_signing_out_ends_the_session_itself(browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault)
    await sign_in(browse)
    kept = dict(browse.cookies)
    await browse.post("/sign-out", data={"csrf": await csrf(browse)})
    browse.cookies.update(kept)
    assert (await browse.get("/account")).status_code == 303
