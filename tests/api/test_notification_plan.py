"""The what-if, in the words of its users: who would be told of an incident, when, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from tests.integration_calls import change, made, server

FIELDS = {
    "integration_uuid", "name", "type", "attached", "after", "repeat", "notified", "at", "why_not", "on_duty",
}  # fmt: skip
HOUR = timedelta(hours=1)


async def attach(client: httpx.AsyncClient, resource: str, name: str, **how: Any) -> str:
    uuid = await made(client, name=name)
    answer = await client.post(f"/api/v1/servers/{resource}/integrations", json={"integration_id": uuid, **how})
    assert answer.status_code == 201, answer.text
    return uuid


async def plan(client: httpx.AsyncClient, resource: str, **asked: str) -> dict[str, dict[str, Any]]:
    """What becomes of each integration, by its name, in the order in which they are told."""
    answer = await client.get(f"/api/v1/servers/{resource}/notification_plan", params=asked)
    assert answer.status_code == 200, answer.text
    assert all(each.keys() == FIELDS for each in answer.json()["data"])
    return {each["name"]: each for each in answer.json()["data"]}


async def test_everybody_is_in_it_in_the_order_in_which_they_are_told(app_client: httpx.AsyncClient) -> None:
    one = await server(app_client)
    await made(app_client, name="Nobody's")
    await attach(app_client, one, "Boss", after=600, repeat=60)
    await attach(app_client, one, "Disks", incident_types=["disk"])
    await attach(app_client, one, "Ann")
    found = await plan(app_client, one)
    ann, boss = found["Ann"], found["Boss"]
    assert [name for name, each in found.items() if each["notified"]] == ["Ann", "Boss"]
    assert (boss["attached"], boss["after"], boss["repeat"], boss["why_not"]) == ("directly", 600, 60, None)
    waits = datetime.fromisoformat(boss["at"]) - datetime.fromisoformat(ann["at"])
    assert waits == timedelta(seconds=600)
    assert found["Disks"]["why_not"] == "only disk"
    assert found["Nobody's"]["why_not"] == "not attached"
    assert (await plan(app_client, one, incident_type="disk"))["Disks"]["notified"]


async def test_in_a_silence_it_says_when_that_ends_and_why_not_before(app_client: httpx.AsyncClient) -> None:
    one = await server(app_client)
    await attach(app_client, one, "Ann")
    until = (datetime.now(UTC) + HOUR).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = await app_client.post("/api/v1/silences", json={"silence": {"name": "Sunday", "ends_at": until}})
    assert answer.status_code == 201, answer.text
    ann = (await plan(app_client, one))["Ann"]
    assert (ann["notified"], ann["at"], ann["why_not"]) == (True, until, f'silence "Sunday" until {until}')
    later = (datetime.now(UTC) + 2 * HOUR).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await plan(app_client, one, at=later))["Ann"]["why_not"] is None


async def test_of_a_disabled_one_it_says_since_when_and_why(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    one = await server(app_client)
    await attach(app_client, one, "Ann")
    await pool.execute("UPDATE integrations SET disabled_at = '2026-05-01T10:00Z', disabled_reason = 'gone for good'")
    assert (await plan(app_client, one))["Ann"]["why_not"] == (
        "integration disabled since 2026-05-01T10:00:00Z: gone for good"
    )


async def test_flood_control_and_acknowledgements_may_last_a_second(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client, "Integrations::EmailIntegration")
    shortest = {"incidents": 1, "seconds": 1}
    assert (await change(app_client, uuid, flood=shortest)).json()["flood"] == shortest
    alarm = {"resource_type": "Server", "resource_uuid": await server(app_client), "incident_type": "raid"}
    opened = await app_client.post("/api/v1/incidents", json={"incident": {**alarm, "message": "It broke"}})
    path = f"/api/v1/incidents/{opened.json()['uuid']}/acknowledge"
    assert (await app_client.post(path, json={"for": 1})).json()["acknowledged_until"] is not None
    assert (await app_client.post(path, json={"for": 0})).status_code == 422
