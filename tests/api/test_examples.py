"""Every example of a request that the description shows can be sent as it stands, but for the names in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from tests.integration_calls import made, monitor, server
from tocsin.domain import ids

ON_CALL = "Integrations::OnCallIntegration"
CALLS = [
    "/servers/{uuid}", "/servers/{uuid}/integrations", "/servers/{uuid}/integrations/{integration_id}",
    "/heartbeats", "/heartbeats/{uuid}", "/heartbeats/{uuid}/integrations",
    "/network_monitors", "/network_monitors/{uuid}", "/silences", "/silences/{uuid}", "/drills", "/incidents",
    "/incidents/{uuid}/acknowledge", "/incidents/{uuid}/snooze", "/integrations/{uuid}/attach_all",
    "/integrations/{uuid}/overrides", "/integrations/preview",
]  # fmt: skip


def with_names(value: Any, names: dict[str, str]) -> Any:
    """The example, with the names of what there is in the place of its own."""
    if isinstance(value, dict):
        return {name: with_names(each, names) for name, each in value.items()}
    if isinstance(value, list):
        return [with_names(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


async def test_every_example_of_who_is_notified_is_taken(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, project: Any
) -> None:
    for name in ("wien", "graz"):
        await pool.execute(
            "INSERT INTO probes (id, project_id, name) VALUES ($1, $2, $3)", ids.new(), project.id, name
        )
    hook, other, one = await made(app_client), await made(app_client), await server(app_client)
    members = {"timezone": "Europe/Vienna", "rotation": "weekly", "handover": "MO 09:00", "integrations": [hook]}
    on_call = (await app_client.post(
        "/api/v1/integrations", json={"integration": {"type": ON_CALL, "settings": members}}
    )).json()["uuid"]  # fmt: skip
    parents = [await monitor(app_client) for _ in range(3)]
    names = {
        "INT123": hook, "INT456": other, "SRV123": one, "NM123": parents[0], "NM456": parents[1], "NM789": parents[2],
    }  # fmt: skip
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    silence = {"name": "Now", "ends_at": until, "integrations": [other]}
    made_silence = (await app_client.post("/api/v1/silences", json={"silence": silence})).json()["uuid"]
    await app_client.post(f"/api/v1/servers/{one}/integrations", json={"integration_id": hook})
    alarm = {"resource_type": "Server", "resource_uuid": one, "incident_type": "raid", "message": "It broke"}
    incident = (await app_client.post("/api/v1/incidents", json={"incident": alarm})).json()["uuid"]
    mine = {
        "servers": one, "network_monitors": await monitor(app_client), "silences": made_silence, "incidents": incident,
        "integrations": hook,
        "heartbeats": (await app_client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "x"}})).json()["uuid"],
    }  # fmt: skip
    paths = (await app_client.get("/api/v1/openapi.json")).json()["paths"]
    sent = 0
    for call in CALLS:
        noun = call.split("/")[1]
        uuid = on_call if call.endswith("/overrides") else mine.get(noun, "")
        path = f"/api/v1{call}".replace("{uuid}", uuid).replace("{integration_id}", hook)
        for method, operation in paths[f"/api/v1{call}"].items():
            examples = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in examples.get("examples", {}).items():
                answer = await app_client.request(method, path, json=with_names(example["value"], names))
                assert answer.is_success, (method, call, name, answer.text)
                sent += 1
    assert sent >= len(CALLS)
