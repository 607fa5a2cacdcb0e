"""The way into the console: first start, signing in and out, new passwords, sessions, projects, invitations."""

from __future__ import annotations

import base64
import email
import re
from collections.abc import AsyncIterator
from email.policy import default
from html import unescape
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.aged import aged
from tests.conftest import new_project, running
from tests.storage.accounts.test_accounts import bearer
from tocsin import app
from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, members, operator, passwords
from tocsin.storage.postgres.secrets import Vault

ANN, BOB = "ann@example.com", "bob@example.com"
PASSWORD = "correct horse"
PAGE = {"Accept": "text/html,application/xhtml+xml"}


def visitor(application: Any, base: str = "http://tocsin.test") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
    return httpx.AsyncClient(base_url=base, transport=transport, headers=PAGE, timeout=20)


@pytest_asyncio.fixture
async def site(settings: Settings) -> AsyncIterator[Any]:
    application = app.api_app(settings, "http://tocsin.test")
    async with running(application):
        yield application


@pytest_asyncio.fixture
async def browse(site: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(site) as client:
        yield client


async def account(pool: asyncpg.Pool, vault: Vault, address: str = ANN, *, role: str = "owner") -> Any:
    """A user with a password, in a project of their own or, as another role, in one without an owner."""
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.create_user(tx, address, "Ann", passwords.hash_now(PASSWORD))
        assert user
        await accounts.verify(tx, user.id, user.email)
        await tx.execute(accounts.INSERT_MEMBER, project.id, user.id, role)
    return user


async def sign_in(
    client: httpx.AsyncClient, address: str = ANN, password: str = PASSWORD, **more: str
) -> httpx.Response:
    return await client.post("/sign-in", data={"email": address, "password": password, **more})


def csrf_in(answer: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found, answer.text
    return found[1]


async def csrf(client: httpx.AsyncClient) -> str:
    return csrf_in(await client.get("/account"))


def letters(settings: Settings) -> list[Any]:
    files = sorted(settings.outbox.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in files]


def link_in(letter: Any) -> str:
    return next(line for line in letter.get_content().splitlines() if "token=" in line)


# ------------------------------------------------------------------------------------------------------ first start


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


# ------------------------------------------------------------------------------------------------------- signing in


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
        application = app.api_app(settings, url)
        async with running(application), visitor(application, url) as client:
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


# ------------------------------------------------------------------------------------------------------------ forms


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
    application = app.api_app(settings, app.public_url(settings))
    async with running(application), visitor(application) as client:
        answer = await client.post("/sign-in", data={"email": ANN, "password": PASSWORD}, headers=headers)
    assert answer.status_code == (422 if taken else 403)


async def test_what_a_form_has_to_say_is_said_once(browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault) -> None:
    await account(pool, vault)
    await sign_in(browse)
    await browse.post("/account/name", data={"name": "Eve", "csrf": await csrf(browse)})
    assert "Your name is changed" in (await browse.get("/account")).text
    assert "Your name is changed" not in (await browse.get("/account")).text


# ---------------------------------------------------------------------------------------------------- new passwords


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


# --------------------------------------------------------------------------------------------------------- sessions


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


async def test_the_cookies_token_is_a_users_token_of_the_api(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await sign_in(browse)
    answer = await browse.get("/api/v1/projects", headers=bearer(browse.cookies["tocsin"]))
    assert answer.status_code == 200


# ------------------------------------------------------------------------------------------- projects, invitations


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


async def invitation(pool: asyncpg.Pool, vault: Vault, address: str = BOB, role: Any = "reader") -> tuple[Any, str]:
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        owner = await accounts.ensure_user(tx, "owner@example.com")
        await tx.execute(accounts.INSERT_MEMBER, project.id, owner.id, "owner")
        made = await members.invite(tx, project.id, address, role, by=owner.id)
    return project, members.link(vault, "http://tocsin.test", made)


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


async def test_who_is_in_no_project_is_told_what_to_do(
    browse: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault)
    await pool.execute("DELETE FROM members")
    await sign_in(browse)
    assert (await browse.get("/account")).headers["location"] == "/projects"
    assert "You are in no project" in (await browse.get("/projects")).text


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
