"""Replays over the API: what is refused, what is selected, and what a replay says of itself. Without an engine."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from tests.calls import alarm, integration, new_server, new_webhook, opened
from tests.replay_scene import order, read, replayed
from tests.service import new_project
from tests.waiting import until
from tocsin.engine import replays as engine

FIELDS = {
    "uuid", "integration_uuid", "state", "reason", "from", "to", "status", "total", "queued", "delivered", "dead",
    "suppressed", "skipped", "created_by", "created_at", "finished_at",
}  # fmt: skip

END = """
WITH ended AS (DELETE FROM outstanding RETURNING *)
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, redelivery_of, status,
                      attempt, attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, incident_id, event, redelivery_of, $1, 1, '[]', created_at,
       now() FROM ended
"""


@pytest.fixture
async def webhook(app_client: httpx.AsyncClient) -> str:
    """A webhook that is attached to a server with three incidents."""
    server = await new_server(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    for kind in ("a", "b", "c"):
        assert (await opened(app_client, alarm(server, kind))).status_code == 201
    return webhook


async def test_a_replay_says_what_it_sends_and_is_stopped(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await pool.execute(END, "dead")
    replay = await replayed(app_client, webhook)
    assert replay.keys() == FIELDS
    assert (replay["state"], replay["status"], replay["total"], replay["queued"]) == ("running", "dead", 3, 0)
    assert (replay["integration_uuid"], replay["created_by"], replay["reason"]) == (webhook, "API token", None)
    assert await read(app_client, replay["uuid"]) == replay
    listed = (await app_client.get(f"/api/v1/integrations/{webhook}/replays")).json()
    assert (listed["data"], listed["meta"]["total_count"]) == ([replay], 1)
    stopped = (await app_client.post(f"/api/v1/replays/{replay['uuid']}/stop")).json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "the replay was stopped")
    assert stopped["finished_at"]
    assert (await app_client.post(f"/api/v1/replays/{replay['uuid']}/stop")).json() == stopped
    said = [row["action"] for row in await pool.fetch("SELECT action FROM audit ORDER BY id DESC LIMIT 2")]
    assert said == ["stopped a replay", "started a replay"]


async def test_one_replay_of_an_integration_runs_at_a_time(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await pool.execute(END, "dead")
    first = await replayed(app_client, webhook)
    refused = await order(app_client, webhook)
    assert (refused.status_code, refused.json()["error"]) == (422, "unprocessable_entity")
    await app_client.post(f"/api/v1/replays/{first['uuid']}/stop")
    assert (await replayed(app_client, webhook))["total"] == 3


async def test_only_the_status_that_is_asked_for_is_sent_again_and_no_tests(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await app_client.post(f"/api/v1/integrations/{webhook}/test")
    await pool.execute(END, "suppressed")
    assert (await order(app_client, webhook)).status_code == 422
    assert (await replayed(app_client, webhook, status="suppressed"))["total"] == 3


async def test_what_was_sent_again_with_success_is_left_out(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await pool.execute(END, "dead")
    listed = (await app_client.get(f"/api/v1/integrations/{webhook}/deliveries")).json()["data"]
    for each, status in zip(listed, ("delivered", "dead"), strict=False):
        assert (await app_client.post(f"/api/v1/deliveries/{each['uuid']}/redeliver")).status_code == 202
        await pool.execute(END, status)
    assert (await replayed(app_client, webhook))["total"] == 2


async def test_only_what_was_created_in_the_range_is_sent_again(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await pool.execute(END, "dead")
    listed = (await app_client.get(f"/api/v1/integrations/{webhook}/deliveries")).json()["data"]
    [last, middle, _] = await pool.fetch("SELECT id, created_at FROM finished ORDER BY id DESC")
    assert len(listed) == 3
    exact = {"from": middle["created_at"].isoformat(), "to": last["created_at"].isoformat()}
    assert (await replayed(app_client, webhook, **exact))["total"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"from": "2024-05-01T00:00:00Z", "to": "2024-04-01T00:00:00Z"}, "from"),
        ({"from": "2099-01-01T00:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"from": "2001-01-01T00:00:00Z"}, "from"),
        ({"from": "2024-05-01T00:00:00"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({}, "from"),
        ({"from": "2024-05-01T00:00:00Z", "status": "pending"}, "status"),
        ({"from": "2024-05-01T00:00:00Z", "to": 7}, "to"),
    ],
)
async def test_a_range_that_cannot_be_one_is_refused_by_its_field(
    app_client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/")
    answer = await app_client.post(f"/api/v1/integrations/{webhook}/redeliver", json=body)
    assert answer.status_code == 422, answer.text
    assert [each["field"] for each in answer.json()["details"]] == [field], answer.text


async def test_restarts_are_never_sent_again_by_the_range(app_client: httpx.AsyncClient) -> None:
    machine = await integration(
        app_client, "SshServerRestartIntegration", ip="192.0.2.7", username="root", password="secret", port=22
    )
    answer = await order(app_client, machine, status="suppressed")
    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")
    assert "Restarts" in answer.json()["message"]


async def test_too_many_are_refused_with_their_number(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    await pool.execute(END, "dead")
    await pool.execute(
        "INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt,"
        " attempts, created_at, finished_at) SELECT new_id(), f.project_id, integration_id, integration_type,"
        " incident_id, 'reminder', status, 1, '[]', now(), now() FROM (SELECT * FROM finished LIMIT 1) f,"
        " generate_series(1, 100000)"
    )
    answer = await order(app_client, webhook)
    assert answer.status_code == 422
    assert "100,003" in answer.json()["message"]


async def test_replays_of_another_project_do_not_exist(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, webhook: str
) -> None:
    await pool.execute(END, "dead")
    replay = await replayed(app_client, webhook)
    stranger = await new_project(pool, vault)
    headers = {"Authorization": f"Bearer {stranger.api_token}"}
    for answer in (
        await app_client.get(f"/api/v1/replays/{replay['uuid']}", headers=headers),
        await app_client.post(f"/api/v1/replays/{replay['uuid']}/stop", headers=headers),
        await app_client.get("/api/v1/replays/RPL123"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "replay_not_found")
    body = {"from": replay["from"]}
    for answer in (
        await app_client.post(f"/api/v1/integrations/{webhook}/redeliver", headers=headers, json=body),
        await app_client.get(f"/api/v1/integrations/{webhook}/replays", headers=headers),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "integration_not_found")


async def test_what_is_sent_again_waits_for_what_is_sent_of_the_same_incident(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, webhook: str
) -> None:
    """A resolve that still waits comes after the beginning that is sent again."""
    await pool.execute(END, "dead")
    await replayed(app_client, webhook)
    incident = (await app_client.get("/api/v1/incidents")).json()["data"][-1]["uuid"]
    await app_client.post(f"/api/v1/incidents/{incident}/resolve")
    pause = asyncio.Event()
    task = asyncio.create_task(engine.run(pool, 400, pause))
    try:
        async def taken() -> bool:
            return bool(await pool.fetchval("SELECT queued FROM replays"))

        await until(taken, what="that the first was queued")
    finally:
        pause.set()
        await task
    rows = await pool.fetch("SELECT id, event, blocked_by, blocks_another FROM outstanding ORDER BY id")
    resolved, again = sorted(rows, key=lambda row: row["event"], reverse=True)
    assert (resolved["event"], resolved["blocked_by"]) == ("resolved", again["id"])
    assert again["blocks_another"]
