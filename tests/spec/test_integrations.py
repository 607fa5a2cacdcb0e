"""The specification's integrations, by running what it prints."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.calls import attach_to_all, integration
from tests.receivers import Mailbox, Receiver
from tests.service import Service
from tests.specification import (
    ATTACH,
    CANNOT_BE_DELETED,
    CREATE_EMAIL,
    CREATE_TO_ATTACH,
    CREATE_WEBHOOK,
    DELETE,
    EMAIL_CREATED,
    LIST,
    TIME,
    UUID,
    WEBHOOK_CREATED,
    WEBHOOK_PAYLOAD,
    WEBHOOK_URL,
    assert_as_printed,
    curl,
    monitor_of_the_example,
    open_timeout,
    server,
)
from tests.waiting import until

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
