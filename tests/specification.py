"""What the specification prints, to the letter, and how it is run: by curl, answers compared in order."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

import httpx

from tests import needed
from tests.service import Service

UUID = re.compile(r"^INT[A-Z0-9]{3,}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

WEBHOOK_URL = "https://hooks.slack.com/services/YOUR/WEBHOOK/URL"

LIST = r"""
curl -X GET https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json"
"""

CREATE_WEBHOOK = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "integration": {
      "type": "Integrations::WebhookIntegration",
      "settings": {
        "webhook_url": "https://hooks.slack.com/services/YOUR/WEBHOOK/URL"
      }
    }
  }'
"""

WEBHOOK_CREATED = """
{
  "uuid": "INT123",
  "type": "Integrations::WebhookIntegration",
  "name": "https://hooks.slack.com/services/YOUR/WEBHOOK/URL",
  "settings": {
    "webhook_url": "https://hooks.slack.com/services/YOUR/WEBHOOK/URL"
  },
  "editable": true,
  "deletable": true,
  "created_at": "2024-01-01T00:00:00Z",
  "updated_at": "2024-01-01T00:00:00Z"
}
"""

WEBHOOK_PAYLOAD = """
{
  "resource_name": "https://example.com",
  "resource_url": "https://example.com",
  "resource_type": "NetworkMonitor",
  "incident_type": "timeout",
  "incident_status": "ongoing",
  "incident_duration": null,
  "incident_message": "Request timeout after 30 seconds"
}
"""

CREATE_EMAIL = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "integration": {
      "type": "Integrations::EmailIntegration",
      "settings": {
        "email": "alerts@example.com"
      }
    }
  }'
"""

EMAIL_CREATED = """
{
  "uuid": "INT123",
  "type": "Integrations::EmailIntegration",
  "name": "alerts@example.com",
  "settings": {
    "email": "alerts@example.com"
  },
  "editable": true,
  "deletable": true,
  "created_at": "2024-01-01T00:00:00Z",
  "updated_at": "2024-01-01T00:00:00Z"
}
"""

DELETE = r"""
curl -X DELETE https://app.uptinio.com/api/v1/integrations/INT123 \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json"
"""

CANNOT_BE_DELETED = """
{
  "error": "This integration cannot be deleted."
}
"""

CREATE_TO_ATTACH = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "integration": {
      "type": "Integrations::WebhookIntegration",
      "settings": { "webhook_url": "https://hooks.slack.com/services/YOUR/WEBHOOK/URL" }
    }
  }'
"""

ATTACH = r"""
curl -X POST "https://api.uptinio.com/api/v1/servers/SRV123/integrations" \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"integration_id": "INT456"}'
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What curl got: the status, the body as sent, its content type."""

    status: int
    text: str
    content_type: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def curl(service: Service, printed: str, **replaced: str) -> Said:
    """Run a command of the specification as it is printed, but for host, token and the example's identifiers."""
    needed.program("curl")
    for host in ("https://app.uptinio.com", "https://api.uptinio.com"):
        printed = printed.replace(host, service.url)
    for old, new in {"YOUR_PROJECT_API_TOKEN": service.token, **replaced}.items():
        printed = printed.replace(old, new)
    command = [*shlex.split(printed.replace("\\\n", " ")), "-sS", "-w", "\n%{http_code} %{content_type}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    text, _, last = output.decode().rpartition("\n")
    status, _, content_type = last.partition(" ")
    return Said(int(status), text, content_type)


def assert_as_printed(said: Said, printed: str) -> None:
    """The same fields in the same order with the same values; what the service chooses has the printed form."""
    expected = json.loads(printed)
    assert said.content_type.startswith("application/json")
    assert list(said.json) == list(expected)
    assert said.json["settings"] == expected["settings"]
    assert list(said.json["settings"]) == list(expected["settings"])
    for field, value in expected.items():
        if field == "uuid":
            assert UUID.match(said.json[field])
        elif field in ("created_at", "updated_at"):
            assert TIME.match(said.json[field])
        else:
            assert said.json[field] == value


async def monitor_of_the_example(client: httpx.AsyncClient) -> str:
    """The monitor that the printed payload speaks of, paused: the test opens its incident from outside."""
    created = await client.post(
        "/api/v1/network_monitors",
        json={"network_monitor": {"url": "https://example.com", "check_type": "http", "paused": True}},
    )
    assert created.status_code == 201, created.text
    return str(created.json()["uuid"])


async def open_timeout(client: httpx.AsyncClient, monitor: str) -> dict[str, Any]:
    opened = await client.post(
        "/api/v1/incidents",
        json={
            "incident": {
                "resource_type": "NetworkMonitor",
                "resource_uuid": monitor,
                "incident_type": "timeout",
                "message": "Request timeout after 30 seconds",
            }
        },
    )
    assert opened.status_code == 201, opened.text
    return dict(opened.json())


async def server(client: httpx.AsyncClient) -> str:
    """A server, as an agent makes one by its first report."""
    report = {
        "attributes": {"motherboard_id": "unique_mb_id_123", "hostname": "my-server"},
        "metrics": [],
        "agent_version": "1.2.3",
    }
    assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
    return str((await client.get("/api/v1/servers")).json()[0]["uuid"])
