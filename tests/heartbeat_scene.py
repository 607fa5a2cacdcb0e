"""Heartbeats for tests: made over the API, pinged over real sockets, looked at."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.waiting import until


async def new_heartbeat(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A heartbeat as its creation answers. Its `ping_url` is on whatever host the client speaks to."""
    made = await client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "Nightly backup", **fields}})
    assert made.status_code == 201, made.text
    return here(client, made.json())


def here(client: httpx.AsyncClient, shown: dict[str, Any]) -> dict[str, Any]:
    """The same, with its address on the host that the client speaks to."""
    url = str(client.base_url).rstrip("/") + urlsplit(shown["ping_url"]).path
    return {**shown, "ping_url": url}


async def shown(client: httpx.AsyncClient, heartbeat: dict[str, Any]) -> dict[str, Any]:
    found = await client.get(f"/api/v1/heartbeats/{heartbeat['uuid']}")
    assert found.status_code == 200, found.text
    return here(client, found.json())


async def has_status(client: httpx.AsyncClient, heartbeat: dict[str, Any], status: str) -> dict[str, Any]:
    """Waits until it has."""
    async def look() -> dict[str, Any] | None:
        found = await shown(client, heartbeat)
        return found if found["status"] == status else None

    return await until(look, what=f"{heartbeat['name']} to be {status}")


async def pings_of(client: httpx.AsyncClient, heartbeat: dict[str, Any], **asked: int) -> list[dict[str, Any]]:
    """Newest first."""
    found = await client.get(f"/api/v1/heartbeats/{heartbeat['uuid']}/pings", params={"per_page": 100, **asked})
    assert found.status_code == 200, found.text
    return list(found.json()["data"])


async def body_of(client: httpx.AsyncClient, heartbeat: dict[str, Any], n: int) -> str:
    found = await client.get(f"/api/v1/heartbeats/{heartbeat['uuid']}/pings/{n}/body")
    assert found.status_code == 200, found.text
    return str(found.json()["body"])


async def incidents_of(client: httpx.AsyncClient, heartbeat: dict[str, Any]) -> list[dict[str, Any]]:
    """Newest first, those that are over included."""
    found = (await client.get("/api/v1/incidents", params={"per_page": 100})).json()["data"]
    return [each for each in found if each["monitorable_uuid"] == heartbeat["uuid"]]
