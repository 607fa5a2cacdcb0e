"""Users and projects by API: what a user's token may do, in every role, at every call that the API describes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.users import bearer, register, token_of
from tocsin.domain import ids
from tocsin.storage.postgres.secrets import Vault

OWN = re.compile(r"^/api/v1/(users|projects)\b")
"""What users do about themselves."""
CHANGING = {"post", "put", "patch", "delete"}


@pytest_asyncio.fixture
async def calls(app_client: httpx.AsyncClient) -> AsyncIterator[list[tuple[str, str]]]:
    """Every call that acts on a project, with identifiers of nothing in the path."""
    described = (await app_client.get("/api/v1/openapi.json")).json()
    nothing = ids.public(ids.SERVER, ids.new())
    yield [
        (method.upper(), re.sub(r"\{[^}]*\}", nothing, path))
        for path, methods in described["paths"].items()
        for method, call in methods.items()
        if path.startswith("/api/v1/") and not OWN.match(path) and call.get("security") != []
    ]


async def test_a_reader_changes_nothing_anywhere(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any, calls: list[tuple[str, str]]
) -> None:
    token = await token_of(pool, vault, project, "reader")
    changing = [call for call in calls if call[0].lower() in CHANGING]
    assert len(changing) > 20
    wrong = []
    for method, path in changing:
        answer = await app_client.request(method, path, json={}, headers=bearer(token))
        if answer.status_code != 403:
            wrong.append((method, path, answer.status_code))
    assert not wrong


@pytest.mark.parametrize("role", ["owner", "member", "reader"])
async def test_a_users_token_works_wherever_a_projects_token_does(
    app_client: httpx.AsyncClient,
    pool: asyncpg.Pool,
    vault: Vault,
    project: Any,
    calls: list[tuple[str, str]],
    role: str,
) -> None:
    token = await token_of(pool, vault, project, role)
    wrong = []
    for method, path in calls:
        if (method != "GET" and role == "reader") or path == "/api/v1/usage":  # which is the operator's
            continue
        theirs = await app_client.request(method, path, json=None if method == "GET" else {}, headers=bearer(token))
        projects = await app_client.request(method, path, json=None if method == "GET" else {})
        if theirs.status_code != projects.status_code or theirs.status_code in (401, 403):
            wrong.append((method, path, theirs.status_code, projects.status_code))
    assert not wrong


@pytest.mark.parametrize(("role", "sees"), [("owner", True), ("member", True), ("reader", False)])
async def test_projects_are_listed_with_their_token_but_not_to_readers(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any, role: str, sees: bool
) -> None:
    token = await token_of(pool, vault, project, role)
    (listed,) = (await app_client.get("/api/v1/projects", headers=bearer(token))).json()
    assert listed["uuid"] == ids.public(ids.PROJECT, project.id)
    assert listed["is_current"] is True
    assert listed["api_token"] == (project.api_token if sees else None)
    switched = await app_client.post(f"/api/v1/projects/{listed['uuid']}/switch", headers=bearer(token))
    assert switched.status_code == 200
    assert switched.json()["api_token"] == listed["api_token"]


async def test_who_registers_with_an_address_alone_is_in_after_choosing_a_password(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    answer = await app_client.post("/api/v1/users", json={"user": {"email": "short@example.com"}})
    assert answer.status_code == 201
    assert answer.json()["message"] == "User created successfully"
    assert set(answer.json()["user"]) == {"email", "name", "created_at", "updated_at"}
    again = await register(app_client, email="SHORT@example.com")
    assert again.status_code == 201, "nobody is told who has an account"
    assert await pool.fetchval("SELECT count(*) FROM members WHERE role = 'owner'") == 1


async def test_signing_in_gives_a_token_that_signing_out_ends(app_client: httpx.AsyncClient) -> None:
    await register(app_client)
    given = {"user": {"email": "ANN@example.com", "password": "correct horse"}}
    answer = await app_client.post("/api/v1/users/sign_in", json=given)
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "user"}
    token = answer.json()["token"]
    assert (await app_client.get("/api/v1/servers", headers=bearer(token))).status_code == 200
    assert (await app_client.get("/api/v1/servers", headers={"Authorization": token})).status_code == 200
    assert (await app_client.delete("/api/v1/users/sign_out", headers=bearer(token))).status_code in (200, 204)
    assert (await app_client.get("/api/v1/servers", headers=bearer(token))).status_code == 401
