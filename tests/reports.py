"""What an agent reports, and what is to be seen of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

URL = "/api/v1/server_metrics"
OK = "All metrics were successfully created"


def iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def sample(metric: str, value: object, at: datetime | None = None) -> dict[str, object]:
    return {"metric": metric, "value": value, "timestamp": iso(at or datetime.now(UTC))}


def report(*metrics: object, motherboard_id: str = "mb-1", **attributes: object) -> dict[str, Any]:
    return {
        "attributes": {"motherboard_id": motherboard_id, "hostname": "web-1", **attributes},
        "metrics": list(metrics),
        "agent_version": "1.2.3",
    }


async def only_server(client: httpx.AsyncClient) -> Any:
    (server,) = (await client.get("/api/v1/servers")).json()
    return server


async def ongoing(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    found = (await client.get("/api/v1/incidents?status=ongoing")).json()["data"]
    return [(incident["monitorable_name"], incident["error_message"]) for incident in found]
