"""What tests of integrations ask of the API, and how it refuses."""

from __future__ import annotations

from typing import Any

import httpx

WEBHOOK = "Integrations::WebhookIntegration"
EMAIL = "Integrations::EmailIntegration"
URL = "https://hooks.example.com/services/one"


async def create(client: httpx.AsyncClient, kind: str = WEBHOOK, **more: Any) -> httpx.Response:
    settings = {"webhook_url": URL} if kind == WEBHOOK else {"email": "alerts@example.com"}
    return await client.post("/api/v1/integrations", json={"integration": {"type": kind, "settings": settings, **more}})


async def made(client: httpx.AsyncClient, kind: str = WEBHOOK, **more: Any) -> str:
    answer = await create(client, kind, **more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def change(client: httpx.AsyncClient, uuid: str, **changes: Any) -> httpx.Response:
    return await client.patch(f"/api/v1/integrations/{uuid}", json={"integration": changes})


async def server(client: httpx.AsyncClient, name: str = "one") -> str:
    attributes = {"motherboard_id": name, "hostname": name}
    report = {"attributes": attributes, "metrics": [], "agent_version": "1.2.3"}
    assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
    servers = (await client.get("/api/v1/servers")).json()
    return next(str(each["uuid"]) for each in servers if each["hostname"] == name)


async def monitor(client: httpx.AsyncClient, url: str = "https://example.com") -> str:
    body = {"network_monitor": {"url": url, "check_type": "http", "paused": True}}
    answer = await client.post("/api/v1/network_monitors", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def attached(client: httpx.AsyncClient, resource: str) -> list[str]:
    noun = "servers" if resource.startswith("SRV") else "network_monitors"
    answer = await client.get(f"/api/v1/{noun}/{resource}/integrations")
    assert answer.status_code == 200, answer.text
    return [each["uuid"] for each in answer.json()]


def refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    said = answer.json()
    assert (answer.status_code, said["error"]) == (status, code), answer.text
    assert list(said) == ["error", "message", "details"]
    if field:
        assert field in [detail["field"] for detail in said["details"]]
