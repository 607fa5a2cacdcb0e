"""Cookies and forms: taken from our own pages only, and broken by nothing that a browser says."""

from __future__ import annotations

import base64

import asyncpg
import httpx
import pytest

from tests.people import ANN, PASSWORD, account, browse, csrf, sign_in, site, visitor
from tests.service import in_this_process
from tests.users import bearer
from tocsin import app
from tocsin import settings as configuration
from tocsin.storage.postgres.secrets import Vault

__all__ = ["browse", "site"]


async def test_a_form_without_our_mark_or_from_another_site_changes_nothing(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await sign_in(browse)
    mark = await csrf(browse)
    foreign = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
    for data, headers in [({}, {}), ({"csrf": "x"}, {}), *(({"csrf": mark}, each) for each in foreign)]:
        answer = await browse.post("/account/name", data={"name": "Eve", **data}, headers=headers)
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("text/html")
    assert await pool.fetchval("SELECT name FROM users") == "Ann"
    ours = {"Sec-Fetch-Site": "same-origin", "Origin": "http://tocsin.test"}
    assert (await browse.post("/account/name", data={"name": "Eve", "csrf": mark}, headers=ours)).status_code == 303
    assert await pool.fetchval("SELECT name FROM users") == "Eve"


ORIGINS = [
    ("", {"Origin": "http://tocsin.test"}, True),
    ("", {"Origin": "http://other.test"}, False),
    ("", {"Origin": "http://other.test", "Host": "other.test"}, True),
    ("", {"Origin": "null"}, False),
    ("", {"Origin": "null", "Sec-Fetch-Site": "none"}, False),
    ("", {"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
    ("https://Tocsin.example.com:443/at", {"Origin": "https://tocsin.example.com"}, True),
    ("https://tocsin.example.com", {"Origin": "http://tocsin.example.com"}, False),
    ("https://tocsin.example.com", {"Origin": "http://tocsin.test"}, False),
    ("https://tocsin.example.com", {"Origin": "http://evil.test", "Host": "evil.test"}, False),
    ("https://tocsin.example.com", {"Sec-Fetch-Site": "same-origin"}, True),
    ("https://tocsin.example.com", {}, True),
]


@pytest.mark.parametrize(("public_url", "headers", "taken"), ORIGINS)
async def test_a_form_is_taken_from_pages_of_our_own_origin_only(
    environ: dict[str, str], public_url: str, headers: dict[str, str], taken: bool
) -> None:
    settings = configuration.load(environ={**environ, "TOCSIN_PUBLIC_URL": public_url})
    async with in_this_process(settings, app.public_url(settings)) as front, visitor(front) as client:
        answer = await client.post("/sign-in", data={"email": ANN, "password": PASSWORD}, headers=headers)
    assert answer.status_code == (422 if taken else 403)


async def test_what_a_form_has_to_say_is_said_once(browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault)
    await sign_in(browse)
    await browse.post("/account/name", data={"name": "Eve", "csrf": await csrf(browse)})
    assert "Your name was changed" in (await browse.get("/account")).text
    assert "Your name was changed" not in (await browse.get("/account")).text


async def test_the_cookies_token_is_a_users_token_of_the_api(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await sign_in(browse)
    answer = await browse.get("/api/v1/projects", headers=bearer(browse.cookies["tocsin"]))
    assert answer.status_code == 200


async def test_an_address_where_nothing_is_answers_a_reader_with_a_page_and_a_program_with_json(
    browse: httpx.AsyncClient,
) -> None:
    page = await browse.get("/nothing")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    program = await browse.get("/nothing", headers={"Accept": "*/*"})
    assert program.json()["error"] == "not_found"
    assert (await browse.get("/api/v1/nothing")).json()["error"] == "not_found"


@pytest.mark.parametrize(
    "zone",
    ["Mars/Olympus", "Europe", "localtime/x", "zone.tab", "../../etc/passwd", "/etc/passwd", "posixrules/", "UTC%00",
     "a" * 59, '"', '"\\303\\251"', "Factory", "America/Coyhaique", "%2F", "."],
)  # fmt: skip
async def test_no_time_zone_that_a_browser_names_breaks_a_page(
    zone: str, pool: asyncpg.Pool, vault: Vault, browse: httpx.AsyncClient
) -> None:
    await account(pool, vault)
    assert (await sign_in(browse)).status_code == 303
    for page in ("/incidents", "/integrations", "/account"):
        answer = await browse.get(page, headers={"Cookie": f"tocsin={browse.cookies['tocsin']}; zone={zone}"})
        assert answer.status_code == 200, page


@pytest.mark.parametrize(
    "said",
    [b"[" * 100_000, b"[" * 2_000 + b"]" * 2_000, b'["a", 1]', b'["\\ud800", true]', b'["a"]', b"5", b"null", b"{}",
     b'{"a": 1}', b'"ab"', b"\xff", b'["a", true] x', b"[1e999, true]", b"[" + b"9" * 5_000 + b", true]"],
)  # fmt: skip
async def test_nothing_that_a_browser_says_was_said_breaks_a_page(
    said: bytes, pool: asyncpg.Pool, vault: Vault, browse: httpx.AsyncClient
) -> None:
    await account(pool, vault)
    assert (await sign_in(browse)).status_code == 303
    value = base64.urlsafe_b64encode(said).decode()
    answer = await browse.get("/account", headers={"Cookie": f"tocsin={browse.cookies['tocsin']}; said={value}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "http://a\u2100.example", "x"])
async def test_no_origin_breaks_the_check_of_origins(origin: str, browse: httpx.AsyncClient) -> None:
    answer = await browse.post("/sign-in", data={"email": ANN}, headers={"Origin": origin.encode()})
    assert answer.status_code == 403


async def test_a_nul_in_a_form_never_reaches_the_database_however_it_is_written(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await sign_in(browse)
    fields = f"csrf={await csrf(browse)}&url=https%3A%2F%2Fexample.com&name=Site&keyword=%00all%00%20is%20\0well"
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await browse.post("/network_monitors", content=fields.encode(), headers=sent)
    assert answer.status_code == 303, answer.text
    assert await pool.fetchval("SELECT options->>'keyword' FROM network_monitors") == "all is well"
