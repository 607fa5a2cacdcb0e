"""The specification, to the letter: its curl lines run by curl on the real service, its answers compared in order."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import needed
from tests.conftest import Service
from tests.receivers import Mailbox, Receiver
from tests.waiting import until

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


async def integration(client: httpx.AsyncClient, kind: str, **settings: Any) -> str:
    created = await client.post(
        "/api/v1/integrations", json={"integration": {"type": f"Integrations::{kind}", "settings": settings}}
    )
    assert created.status_code == 201, created.text
    return str(created.json()["uuid"])


async def attach_to_all(client: httpx.AsyncClient, uuid: str) -> None:
    assert (await client.post(f"/api/v1/integrations/{uuid}/attach_all")).status_code == 200


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


# ------------------------------------------------------------------------------------------------------ authentication


async def test_a_request_without_a_token_is_unauthorized(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as stranger:
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer YOUR_PROJECT_API_TOKEN"}):
            answer = await stranger.get("/api/v1/integrations", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"] == "unauthorized"


async def test_the_token_is_taken_with_and_without_the_word_bearer(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as caller:
        for value in (f"Bearer {service.token}", service.token, f"bearer {service.token}"):
            answer = await caller.get("/api/v1/integrations", headers={"Authorization": value})
            assert answer.status_code == 200, value


# -------------------------------------------------------------------------------------------------------------- list


async def test_the_list_is_an_array_of_integrations_as_printed(service: Service, client: httpx.AsyncClient) -> None:
    assert (await curl(service, LIST)).json == []
    named = {
        "type": "Integrations::WebhookIntegration",
        "name": "Slack Webhook",
        "settings": {"webhook_url": "https://hooks.slack.com/services/..."},
    }
    assert (await client.post("/api/v1/integrations", json={"integration": named})).status_code == 201

    said = await curl(service, LIST)
    assert said.status == 200
    assert said.content_type.startswith("application/json")
    [listed] = said.json
    assert list(listed) == list(json.loads(WEBHOOK_CREATED))
    assert UUID.match(listed["uuid"])
    assert listed["type"] == named["type"]
    assert listed["name"] == "Slack Webhook"
    assert listed["settings"] == named["settings"]
    assert (listed["editable"], listed["deletable"]) == (True, True)
    assert TIME.match(listed["created_at"])
    assert TIME.match(listed["updated_at"])


async def test_the_list_holds_nothing_of_another_project(service: Service, client: httpx.AsyncClient) -> None:
    await integration(client, "WebhookIntegration", webhook_url=WEBHOOK_URL)
    other = await service.new_project()
    async with service.client(other.api_token) as stranger:
        assert (await stranger.get("/api/v1/integrations")).json() == []


# ------------------------------------------------------------------------------------------------------------ webhook


async def test_a_webhook_is_created_as_printed(service: Service) -> None:
    said = await curl(service, CREATE_WEBHOOK)
    assert said.status == 201
    assert_as_printed(said, WEBHOOK_CREATED)


async def test_the_webhook_receives_the_payload_as_printed(client: httpx.AsyncClient, receiver: Receiver) -> None:
    await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
    await open_timeout(client, await monitor_of_the_example(client))

    [request] = await receiver.arrivals()
    assert request.method == "POST"
    assert request.headers["content-type"].startswith("application/json")
    assert list(request.json.items()) == list(json.loads(WEBHOOK_PAYLOAD).items())


async def test_the_webhook_receives_the_end_with_its_duration(client: httpx.AsyncClient, receiver: Receiver) -> None:
    await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
    incident = await open_timeout(client, await monitor_of_the_example(client))
    await receiver.arrivals()
    assert (await client.post(f"/api/v1/incidents/{incident['uuid']}/resolve")).status_code == 200

    _, request = await receiver.arrivals(2)
    assert list(request.json) == list(json.loads(WEBHOOK_PAYLOAD))
    assert request.json["incident_status"] == "resolved"
    assert isinstance(request.json["incident_duration"], int)
    assert request.json["incident_message"] == "Request timeout after 30 seconds"


# -------------------------------------------------------------------------------------------------------------- email


async def test_an_email_integration_is_created_as_printed(service: Service) -> None:
    said = await curl(service, CREATE_EMAIL)
    assert said.status == 201
    assert_as_printed(said, EMAIL_CREATED)


async def test_the_mailbox_receives_the_incident(client: httpx.AsyncClient, mailbox: Mailbox) -> None:
    address = "on-call-of-this-test@example.com"
    await attach_to_all(client, await integration(client, "EmailIntegration", email=address))
    await open_timeout(client, await monitor_of_the_example(client))

    [mail] = await mailbox.arrivals(to=address)
    assert "https://example.com" in mail.subject
    assert "Request timeout after 30 seconds" in mail.text
    assert "Request timeout after 30 seconds" in mail.html


async def test_note_an_account_must_have_verified_its_address_before_it_gets_mail(
    service: Service, mailbox: Mailbox
) -> None:
    address = "owner-of-this-test@example.com"
    project = await service.new_project(owner_email=address)
    async with service.client(project.api_token) as client:
        [system] = (await client.get("/api/v1/integrations")).json()
        assert system["settings"] == {"email": address}
        await open_timeout(client, await monitor_of_the_example(client))

        async def ended() -> dict[str, Any] | None:
            deliveries = (await client.get(f"/api/v1/integrations/{system['uuid']}/deliveries")).json()["data"]
            return next((each for each in deliveries if each["finished_at"]), None)

        delivery = await until(ended, what="the end of the delivery")
    assert delivery["status"] == "suppressed"
    assert "verified" in delivery["reason"]
    assert not any("Request timeout" in mail.text for mail in mailbox.to(address))


# --------------------------------------------------------------------------------- the types that come later, unknown


@pytest.mark.parametrize("kind", ["Integrations::CarrierPigeon", "", "webhook"])
async def test_a_type_that_is_not_available_is_refused_with_those_that_are(
    client: httpx.AsyncClient, kind: str
) -> None:
    answer = await client.post("/api/v1/integrations", json={"integration": {"type": kind, "settings": {}}})
    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid_request"
    assert "Integrations::WebhookIntegration" in answer.json()["message"]
    assert "Integrations::EmailIntegration" in answer.json()["message"]


# ------------------------------------------------------------------------------------------------------------- delete


async def test_an_integration_is_deleted_as_printed(service: Service, client: httpx.AsyncClient) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=WEBHOOK_URL)
    said = await curl(service, DELETE, INT123=uuid)
    assert (said.status, said.text) == (204, "")
    assert (await client.get("/api/v1/integrations")).json() == []

    again = await curl(service, DELETE, INT123=uuid)
    assert again.status == 404
    assert again.json["error"] == "integration_not_found"


async def test_a_system_integration_cannot_be_deleted_and_says_so_as_printed(service: Service) -> None:
    service.project = await service.new_project(owner_email="owner-who-stays@example.com")
    [system] = (await curl(service, LIST)).json
    assert (system["editable"], system["deletable"]) == (False, False)

    said = await curl(service, DELETE, INT123=system["uuid"])
    assert said.status == 422
    assert said.json == json.loads(CANNOT_BE_DELETED)
    assert len((await curl(service, LIST)).json) == 1


# ---------------------------------------------------------------------------------------------------------- attaching


async def test_a_webhook_is_attached_to_a_server_as_printed(
    service: Service, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    created = await curl(service, CREATE_TO_ATTACH, **{WEBHOOK_URL: receiver.url()})
    assert created.status == 201
    uuid, machine = created.json["uuid"], await server(client)

    attached = await curl(service, ATTACH, SRV123=machine, INT456=uuid)
    assert attached.status == 201
    listed = await client.get(f"/api/v1/servers/{machine}/integrations")
    assert listed.status_code == 200
    assert [each["uuid"] for each in listed.json()] == [uuid]
    assert list(listed.json()[0]) == list(json.loads(WEBHOOK_CREATED))

    body = {"incident": {
        "resource_type": "Server", "resource_uuid": machine, "incident_type": "disk_failure", "message": "sda is dying",
    }}
    assert (await client.post("/api/v1/incidents", json=body)).status_code == 201
    [request] = await receiver.arrivals()
    assert request.json["resource_name"] == "my-server"
    assert request.json["resource_url"] == f"{service.url}/servers/{machine}"
    assert request.json["resource_type"] == "Server"

    detached = await client.delete(f"/api/v1/servers/{machine}/integrations/{uuid}")
    assert (detached.status_code, detached.text) == (204, "")
    assert (await client.get(f"/api/v1/servers/{machine}/integrations")).json() == []


async def test_attaching_twice_changes_nothing(service: Service, client: httpx.AsyncClient) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=WEBHOOK_URL)
    machine = await server(client)
    statuses = [(await curl(service, ATTACH, SRV123=machine, INT456=uuid)).status for _ in range(2)]
    assert statuses == [201, 200]
    assert len((await client.get(f"/api/v1/servers/{machine}/integrations")).json()) == 1


async def test_what_is_attached_must_exist_in_the_project(service: Service, client: httpx.AsyncClient) -> None:
    machine = await server(client)
    said = await curl(service, ATTACH, SRV123=machine)
    assert (said.status, said.json["error"]) == (404, "integration_not_found")
    uuid = await integration(client, "WebhookIntegration", webhook_url=WEBHOOK_URL)
    said = await curl(service, ATTACH, INT456=uuid)
    assert (said.status, said.json["error"]) == (404, "server_not_found")


# -------------------------------------------------------------------------------------------------------- error codes


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, None),
        ({"integration": {"settings": {"webhook_url": WEBHOOK_URL}}}, 422, "type"),
        ({"integration": {"type": "Integrations::WebhookIntegration"}}, 422, "settings"),
        ({"integration": {"type": "Integrations::WebhookIntegration", "settings": {}}}, 422, "settings.webhook_url"),
        (
            {"integration": {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "no address"}}},
            422, "settings.webhook_url",
        ),
        ({"integration": {"type": "Integrations::EmailIntegration", "settings": {}}}, 422, "settings.email"),
        (
            {"integration": {"type": "Integrations::EmailIntegration", "settings": {"email": "not an address"}}},
            422, "settings.email",
        ),
    ],
)
async def test_a_required_parameter_that_is_missing_or_wrong_is_an_invalid_request(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await client.post("/api/v1/integrations", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error", "message", "details"]
    assert answer.json()["error"] == "invalid_request"
    if field:
        assert field in [detail["field"] for detail in answer.json()["details"]]
    assert (await client.get("/api/v1/integrations")).json() == []


async def test_a_system_integration_cannot_be_changed(service: Service) -> None:
    project = await service.new_project(owner_email="owner-unchanged@example.com")
    async with service.client(project.api_token) as client:
        [system] = (await client.get("/api/v1/integrations")).json()
        answer = await client.patch(
            f"/api/v1/integrations/{system['uuid']}", json={"integration": {"name": "Mine now"}}
        )
        assert answer.status_code == 422
        assert answer.json()["error"] == "unprocessable_entity"
