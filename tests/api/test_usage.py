"""The operator sees what each project uses; nobody else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.calls import alarm, new_server, new_webhook, opened
from tests.service import new_project
from tests.users import PERSON, bearer, register, sign_in

PATH = "/api/v1/usage"
NOW = datetime.now(UTC)
AROUND = {"from": (NOW - timedelta(hours=2)).isoformat(), "to": (NOW + timedelta(days=1)).isoformat()}


@pytest.fixture
async def operator(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> dict[str, str]:
    await register(app_client)
    token = await sign_in(app_client)
    await pool.execute("UPDATE users SET operator = true WHERE email = $1", PERSON["email"])
    return bearer(token)


async def test_the_operator_sees_what_each_project_has_and_was_notified_of(
    app_client: httpx.AsyncClient, operator: dict[str, str], project: Any, pool: asyncpg.Pool, vault: Any
) -> None:
    other = await new_project(pool, vault, plan="free")
    server = await new_server(app_client)
    await new_webhook(app_client, "http://127.0.0.1:9/", server)
    await opened(app_client, alarm(server, "a"), alarm(server, "b"))
    await pool.execute("""
        WITH ended AS (DELETE FROM outstanding RETURNING *)
        INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt,
                              attempts, created_at, finished_at)
        SELECT id, project_id, integration_id, integration_type, incident_id, event,
               CASE WHEN row_number() OVER () = 1 THEN 'dead' ELSE 'delivered' END, 1, '[]', created_at, now()
        FROM ended
    """)
    answer = (await app_client.get(PATH, headers=operator, params=AROUND)).json()
    by_name = {each["project_name"]: each for each in answer["data"]}
    mine, theirs = by_name[project.name], by_name[other.name]
    assert (mine["plan"], mine["servers"], mine["integrations"]) == ("paid", 1, 1)
    assert (mine["ongoing_incidents"], mine["incidents"]) == (2, 2)
    assert sum(mine["delivered"].values()) == sum(mine["dead"].values()) == 1
    assert (theirs["plan"], theirs["servers"], theirs["incidents"], theirs["delivered"]) == ("free", 0, 0, {})
    assert answer["meta"]["total_count"] == len(answer["data"])
    before = {"from": "2025-05-01T00:00:00Z", "to": "2025-05-02T00:00:00Z"}
    earlier = (await app_client.get(PATH, headers=operator, params=before)).json()
    assert {each["incidents"] for each in earlier["data"]} == {0}
    assert {name: earlier["meta"][name] for name in before} == before
    page = (await app_client.get(PATH, headers=operator, params={"per_page": 1, "page": 2})).json()
    assert [each["project_uuid"] for each in page["data"]] == [answer["data"][1]["project_uuid"]]


async def test_nobody_else_sees_it(app_client: httpx.AsyncClient) -> None:
    await register(app_client)
    token = await sign_in(app_client)
    assert (await app_client.get(PATH)).status_code == 401  # a project's token
    answer = await app_client.get(PATH, headers=bearer(token))
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "asked", [
        {"from": "2025-05-02T00:00:00Z", "to": "2025-05-01T00:00:00Z"}, {"from": "x"}, {"from": "0001-01-01T00:00:00Z"},
        {"from": "2025-01-01T00:00:00Z", "to": "2025-05-01T00:00:00Z"}, {"to": "0001-01-01T00:00:00+14:00"},
    ],
)  # fmt: skip
async def test_a_time_that_cannot_be_counted_is_refused(
    app_client: httpx.AsyncClient, operator: dict[str, str], asked: dict[str, str]
) -> None:
    answer = await app_client.get(PATH, headers=operator, params=asked)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
