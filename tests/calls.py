"""What many tests ask of the API: servers, monitors and integrations made, incidents opened."""

from __future__ import annotations

from typing import Any

import httpx


async def integration(client: httpx.AsyncClient, kind: str, **settings: Any) -> str:
    created = await client.post(
        "/api/v1/integrations", json={"integration": {"type": f"Integrations::{kind}", "settings": settings}}
    )
    assert created.status_code == 201, created.text
    return str(created.json()["uuid"])


async def attach_to_all(client: httpx.AsyncClient, uuid: str) -> None:
    assert (await client.post(f"/api/v1/integrations/{uuid}/attach_all")).status_code == 200


async def new_server(client: httpx.AsyncClient, name: str = "my-server", token: str | None = None) -> str:
    """The uuid of a server that has just reported for the first time."""
    report = {"attributes": {"motherboard_id": name, "hostname": name}, "metrics": [], "agent_version": "1.2.3"}
    headers = {"Authorization": f"Bearer {token}"} if token else None
    assert (await client.post("/api/v1/server_metrics", json=report, headers=headers)).status_code == 201
    found = (await client.get("/api/v1/servers", headers=headers)).json()
    return str(next(server["uuid"] for server in found if server["hostname"] == name))


async def new_monitor(client: httpx.AsyncClient) -> str:
    made = {"network_monitor": {"name": "My Website", "url": "https://203.0.113.7/"}}
    return str((await client.post("/api/v1/network_monitors", json=made)).json()["uuid"])


def alarm(uuid: str, kind: str = "disk_failure", message: str = "Disk sda is failing") -> dict[str, str]:
    resource = "Server" if uuid.startswith("SRV") else "NetworkMonitor"
    return {"resource_type": resource, "resource_uuid": uuid, "incident_type": kind, "message": message}


async def opened(client: httpx.AsyncClient, *alarms: dict[str, str]) -> httpx.Response:
    body = {"incident": alarms[0]} if len(alarms) == 1 else {"incidents": list(alarms)}
    return await client.post("/api/v1/incidents", json=body)


async def new_webhook(client: httpx.AsyncClient, url: str, server: str | None = None) -> str:
    settings = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": url}}
    uuid = str((await client.post("/api/v1/integrations", json={"integration": settings})).json()["uuid"])
    if server:
        body = {"integration_id": uuid}
        assert (await client.post(f"/api/v1/servers/{server}/integrations", json=body)).status_code == 201
    return uuid
