"""Users over the API: registering, signing in and out, acting on a project."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import httpx
import pytest

from tests.service import new_project
from tests.users import PERSON, bearer, outbox, register, sign_in
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage.postgres.secrets import Vault


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
