"""One's own sessions: listed, ended, and nobody else's."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx

from tests.people import BOB, account, browse, csrf, sign_in, site, visitor
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_sessions_are_listed_by_their_programs_and_can_be_ended(
    site: Any, browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    browse.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    await sign_in(browse)
    async with visitor(site) as phone:
        phone.headers["User-Agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18 Safari/604"
        await sign_in(phone)
        listed = (await browse.get("/account")).text
        assert "Firefox on Linux" in listed
        assert "Safari on an iPhone" in listed
        other = await pool.fetchval("SELECT id FROM user_tokens WHERE label LIKE 'Safari%'")
        await browse.post("/account/sessions", data={"csrf": await csrf(browse), "session": other.hex})
        assert (await phone.get("/account")).status_code == 303
        await sign_in(phone)
        await browse.post("/account/sessions", data={"csrf": await csrf(browse), "session": "others"})
        assert (await phone.get("/account")).status_code == 303
    assert (await browse.get("/account")).status_code == 200


async def test_nobody_ends_the_session_of_another(
    site: Any, browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await account(pool, vault, BOB)
    async with visitor(site) as bob:
        await sign_in(bob, BOB)
        theirs = await pool.fetchval("SELECT id FROM user_tokens")
        await sign_in(browse)
        await browse.post("/account/sessions", data={"csrf": await csrf(browse), "session": theirs.hex})
        assert (await bob.get("/account")).status_code == 200
