"""Projects, tokens and users: as they are stored, and as the API lets people at them."""

from __future__ import annotations

import asyncio
import email
import re
from email.message import Message
from email.policy import default
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import new_project
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, passwords, sessions, throttle
from tocsin.storage.accounts.passwords import Asker
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.secrets import Vault

PASSWORD = "correct horse"
PERSON = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD, "password_confirmation": PASSWORD}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def register(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/api/v1/users", json={"user": {**PERSON, **changes}})


async def sign_in(client: httpx.AsyncClient, address: str = PERSON["email"], password: str = "correct horse") -> str:
    answer = await client.post("/api/v1/users/sign_in", json={"user": {"email": address, "password": password}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def outbox(settings: Settings) -> list[Message]:
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in settings.outbox.glob("*.eml")]


# --------------------------------------------------------------------------------------------------------- storage


async def test_a_token_is_nowhere_in_the_database_in_clear(pool: asyncpg.Pool, vault: Vault) -> None:
    project = await new_project(pool, vault)
    rows = [dict(row) for row in await pool.fetch("SELECT * FROM projects")]
    assert project.api_token.encode() not in b"".join(v for row in rows for v in row.values() if isinstance(v, bytes))
    assert project.api_token not in repr(rows)


async def test_a_projects_token_leads_to_the_project_until_it_is_replaced(pool: asyncpg.Pool, vault: Vault) -> None:
    project = await new_project(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        assert await accounts.caller_of_token(tx, vault, project.api_token) == accounts.Found(
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
    asker = Asker("192.0.2.1", False, asyncio.Event().wait)  # type: ignore[arg-type]  # who stays
    password_hash = await passwords.hash_of("correct horse", asker)
    assert await passwords.matches(password_hash, "correct horse", asker)
    assert not await passwords.matches(password_hash, "correct hors", asker)
    assert not await passwords.matches(None, "correct horse", asker)
    assert not await passwords.matches("no hash", "correct horse", asker)


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


# ---------------------------------------------------------------------------------------------------------- callers


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "{}", " {} "])
async def test_a_token_is_accepted_with_the_word_bearer_and_without(
    app_client: httpx.AsyncClient, project: Any, form: str
) -> None:
    header = {"Authorization": form.format(project.api_token)}
    assert (await app_client.get("/api/v1/integrations", headers=header)).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer tcp_nobody", "tcp_nobody", "Basic {}", "Bearer {} {}", "Bearer {}x", "{}{}"],
)
async def test_without_a_good_token_the_answer_is_401(app_client: httpx.AsyncClient, project: Any, header: str) -> None:
    token = project.api_token
    answer = await app_client.get("/api/v1/integrations", headers={"Authorization": header.format(token, token)})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"] == "unauthorized"
    assert answer.json()["details"] == []
    assert token not in answer.text


async def test_a_reader_may_look_but_not_change(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        reader = await accounts.ensure_user(tx, "reader@example.com")
        await tx.execute(accounts.INSERT_MEMBER, project.id, reader.id, "reader")
        token = str(await sessions.begin(tx, vault, reader))
    assert (await app_client.get("/api/v1/integrations", headers=bearer(token))).status_code == 200
    webhook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/hook"}}
    answer = await app_client.post("/api/v1/integrations", json={"integration": webhook}, headers=bearer(token))
    assert answer.status_code == 403
    assert answer.json()["error"] == "forbidden"
    (listed,) = (await app_client.get("/api/v1/projects", headers=bearer(token))).json()
    assert listed["api_token"] is None


# ------------------------------------------------------------------------------------------------------------ users


async def test_registering_answers_as_documented_and_sends_one_link(
    app_client: httpx.AsyncClient, settings: Settings
) -> None:
    answer = await register(app_client)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["message"] == "User created successfully"
    assert {name: body["user"][name] for name in ("email", "name")} == {"email": "ann@example.com", "name": "Ann"}
    assert set(body["user"]) == {"email", "name", "created_at", "updated_at"}
    (mail,) = outbox(settings)
    assert mail["To"] == "ann@example.com"
    assert mail["From"]
    assert mail["Message-ID"]
    assert re.search(r"http://tocsin\.test/verify-email\?token=\S+", mail.get_content())  # type: ignore[attr-defined]


async def test_an_address_alone_is_enough_to_register(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.post("/api/v1/users", json={"user": {"email": "ann@example.com"}})
    assert answer.status_code == 201, answer.text
    refused = await app_client.post("/api/v1/users/sign_in", json={"user": PERSON})
    assert refused.status_code == 401


async def test_a_first_website_becomes_the_first_monitor(app_client: httpx.AsyncClient) -> None:
    await register(app_client, first_website="https://example.com")
    token = await sign_in(app_client)
    answer = await app_client.get("/api/v1/network_monitors", headers=bearer(token))
    assert [monitor["url"] for monitor in answer.json()["data"]] == ["https://example.com"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "a@example.com\r\nBcc: b@example.com"),
        ("password", "short"),
        ("password_confirmation", "another one"),
        ("name", "two\nlines"),
        ("first_website", "gopher://example.com"),
    ],
)
async def test_what_cannot_be_registered_is_refused_by_field(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, field: str, value: str
) -> None:
    answer = await register(app_client, **{field: value})
    assert answer.status_code == 422, answer.text
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    assert await pool.fetchval("SELECT count(*) FROM users") == 0


async def test_an_address_that_is_taken_is_answered_as_a_new_one_and_its_owner_is_told(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, settings: Settings
) -> None:
    first = await register(app_client)
    await pool.execute("UPDATE users SET email_verified_at = now()")
    again = await register(app_client, email="ANN@example.com", password="battery", password_confirmation="battery")
    assert again.status_code == first.status_code == 201
    assert again.json().keys() == first.json().keys()
    assert again.json()["user"].keys() == first.json()["user"].keys()
    assert again.json()["user"]["email"] == "ANN@example.com"
    assert await pool.fetchval("SELECT count(*) FROM users") == 1
    await sign_in(app_client)
    assert sorted(mail["Subject"] for mail in outbox(settings)) == [
        "Please confirm your mail address for Tocsin", "You have an account at Tocsin",
    ]  # fmt: skip


@pytest.fixture
def invited(environ: dict[str, str]) -> None:
    environ["TOCSIN_REGISTRATION"] = "invited"


async def test_strangers_cannot_register_by_themselves_everywhere(
    invited: None, app_client: httpx.AsyncClient
) -> None:
    answer = await register(app_client)
    assert answer.status_code == 403
    assert "invitation" in answer.json()["message"]


async def test_a_user_signs_in_acts_and_signs_out(app_client: httpx.AsyncClient) -> None:
    await register(app_client)
    token = await sign_in(app_client, "ANN@example.com")
    assert (await app_client.get("/api/v1/integrations", headers=bearer(token))).status_code == 200
    assert (await app_client.delete("/api/v1/users/sign_out", headers=bearer(token))).status_code == 204
    assert (await app_client.get("/api/v1/integrations", headers=bearer(token))).status_code == 401
    assert (await app_client.delete("/api/v1/users/sign_out", headers=bearer(token))).status_code == 401


async def test_a_token_that_has_run_out_is_worth_nothing(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    await register(app_client)
    token = await sign_in(app_client)
    await pool.execute("UPDATE user_tokens SET expires_at = now()")
    assert (await app_client.get("/api/v1/projects", headers=bearer(token))).status_code == 401


async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(app_client: httpx.AsyncClient) -> None:
    await register(app_client)
    wrong = await app_client.post("/api/v1/users/sign_in", json={"user": {**PERSON, "password": "wrong"}})
    unknown = await app_client.post("/api/v1/users/sign_in", json={"user": {**PERSON, "email": "bob@example.com"}})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content


async def test_guessing_a_password_is_stopped(app_client: httpx.AsyncClient) -> None:
    await register(app_client)
    guess = {"user": {"email": PERSON["email"], "password": "wrong"}}
    answers = [await app_client.post("/api/v1/users/sign_in", json=guess) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 90
    assert answers[-1].json()["error"] == "too_many_requests"


async def test_the_users_token_acts_on_the_current_project(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    await register(app_client)
    await pool.execute("UPDATE users SET email_verified_at = now()")
    second = await new_project(pool, vault, owner_email=PERSON["email"])
    token = await sign_in(app_client)

    async def current() -> list[bool]:
        answer = await app_client.get("/api/v1/projects", headers=bearer(token))
        assert answer.status_code == 200
        return [project["is_current"] for project in answer.json()]

    assert await current() == [True, False]
    uuid = ids.public(ids.PROJECT, second.id)
    answer = await app_client.post(f"/api/v1/projects/{uuid}/switch", headers=bearer(token))
    assert answer.status_code == 200
    assert answer.json()["uuid"] == uuid
    assert answer.json()["api_token"] == second.api_token
    assert await current() == [False, True]
    mine = (await app_client.get("/api/v1/integrations", headers=bearer(token))).json()
    its_own = (await app_client.get("/api/v1/integrations", headers=bearer(second.api_token))).json()
    assert mine == its_own


async def test_a_project_of_others_cannot_be_switched_to(app_client: httpx.AsyncClient, project: Any) -> None:
    await register(app_client)
    token = await sign_in(app_client)
    for uuid in (ids.public(ids.PROJECT, project.id), ids.public(ids.PROJECT, ids.new()), "PRJ"):
        answer = await app_client.post(f"/api/v1/projects/{uuid}/switch", headers=bearer(token))
        assert answer.status_code == 404
        assert answer.json()["error"] == "project_not_found"


async def test_a_projects_token_is_no_users_token(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.get("/api/v1/projects")
    assert answer.status_code == 401
    assert "sign" in answer.json()["message"]


async def test_neither_tokens_nor_passwords_are_logged(
    app_client: httpx.AsyncClient, project: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    await register(app_client)
    token = await sign_in(app_client)
    await app_client.get("/api/v1/projects", headers=bearer(token))
    await app_client.get("/api/v1/nothing-here", headers=bearer(project.api_token))
    await app_client.post("/api/v1/users/sign_in", json={"user": {**PERSON, "password": "a wrong one"}})
    written = "".join(capfd.readouterr()) + caplog.text
    for secret in (token, project.api_token, "correct horse", "a wrong one"):
        assert secret not in written
