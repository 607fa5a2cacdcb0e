"""Apprise by the API: its services, an integration of one, and a test notification through the real path."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import psutil
import pytest

from tests.calls import integration
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import poll, until

SERVICES = "/api/v1/integrations/apprise/services"


async def ended(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = dict((await client.get(f"/api/v1/deliveries/{uuid}")).json())
        return found if found["finished_at"] else None

    return await until(look, what="the end of the delivery")


async def delivery_of_a_test(client: httpx.AsyncClient, uuid: str) -> str:
    return str((await client.post(f"/api/v1/integrations/{uuid}/test")).json()["uuid"])


async def test_the_services_are_listed_page_by_page_and_found_by_name(client: httpx.AsyncClient) -> None:
    first = (await client.get(SERVICES)).json()
    assert len(first["data"]) == first["meta"]["per_page"] == 25
    assert first["meta"]["total_count"] > 150
    labels = [each["label"].lower() for each in first["data"]]
    assert labels == sorted(labels)
    found = (await client.get(SERVICES, params={"search": "GOTIFY"})).json()["data"]
    assert [each["service"] for each in found] == ["gotifys", "gotify"]
    assert (await client.get(SERVICES, params={"search": "no such thing"})).json()["data"] == []
    assert not {"json", "mailto", "vapid"} & {
        each["service"] for page in range(1, 4)
        for each in (await client.get(SERVICES, params={"per_page": 100, "page": page})).json()["data"]
    }  # fmt: skip


async def test_a_service_is_described_with_what_is_required_and_what_is_secret(client: httpx.AsyncClient) -> None:
    described = (await client.get(f"{SERVICES}/discord")).json()
    by_name = {field["name"]: field for field in described["fields"]}
    assert described["label"] == "Discord"
    assert by_name["webhook_token"]["required"]
    assert by_name["webhook_token"]["secret"]
    assert not by_name["botname"]["required"]
    assert "template" not in by_name
    assert (await client.get(f"{SERVICES}/json")).status_code == 404
    assert (await client.get(f"{SERVICES}/nothing")).status_code == 404
    assert (await client.get(SERVICES, headers={"Authorization": "Bearer no"})).status_code == 401


async def test_a_pasted_address_becomes_an_integration_whose_secrets_are_masked(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(200, body=b'{"id": 1}')
    uuid = await integration(client, "AppriseIntegration", url=f"gotify://127.0.0.1:{receiver.port}/s3cret-t0ken")
    shown = (await client.get(f"/api/v1/integrations/{uuid}")).json()
    assert shown["name"] == "Apprise gotify at 127.0.0.1"
    assert shown["settings"] == {
        "service": "gotify",
        "fields": {"host": "127.0.0.1", "port": str(receiver.port), "token": "********"},
    }
    delivery = await ended(client, await delivery_of_a_test(client, uuid))
    assert delivery["status"] == "delivered", delivery
    assert delivery["attempts"][0]["status_code"] == 200
    (request,) = receiver.requests
    assert request.headers["x-gotify-key"] == "s3cret-t0ken"
    assert request.json["title"]
    changed = await client.patch(
        f"/api/v1/integrations/{uuid}", json={"integration": {"settings": {"fields": {"priority": "high"}}}}
    )
    assert changed.json()["settings"]["fields"]["priority"] == "high"
    assert "s3cret" not in changed.text
    assert (await ended(client, await delivery_of_a_test(client, uuid)))["status"] == "delivered"
    assert receiver.requests[-1].json["priority"] == 8
    assert receiver.requests[-1].headers["x-gotify-key"] == "s3cret-t0ken"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "discord://1/abc?template=/etc/passwd"}, "settings.url"),
        ({"url": "json://127.0.0.1/"}, "settings.url"),
        ({"service": "gotify", "fields": {"token": "x"}}, "settings.fields.host"),
        ({"service": "gotify", "fields": {"host": "example.com", "token": "x", "verify": "no"}}, "settings.fields"),
        ({"service": "gotify", "fields": {"host": "0.0.0.0", "token": "x"}}, "settings.fields.host"),
        ({}, "settings.service"),
    ],
)
async def test_what_is_not_offered_is_refused_by_its_name(
    client: httpx.AsyncClient, settings: dict[str, Any], field: str
) -> None:
    made = {"integration": {"type": "Integrations::AppriseIntegration", "settings": settings}}
    answer = await client.post("/api/v1/integrations", json=made)
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json()["details"]] == [field]


async def test_a_worker_that_is_killed_in_the_middle_loses_nothing(own_service: Service, receiver: Receiver) -> None:
    receiver.then(Answer(how="hang"))
    receiver.otherwise = Answer(200, body=b"{}")
    own_service.project = await own_service.new_project()
    async with own_service.client() as client:
        uuid = await integration(client, "AppriseIntegration", url=f"gotify://127.0.0.1:{receiver.port}/t0ken")
        engine = psutil.Process(own_service.engine.pid)
        assert not engine.children(), "nothing runs for Apprise before there is something to deliver"
        delivery = await delivery_of_a_test(client, uuid)
        await receiver.arrivals(1)

        def worker() -> psutil.Process | None:
            return next((each for server in engine.children() for each in server.children()), None)

        (await asyncio.to_thread(poll, worker)).kill()
        found = await ended(client, delivery)
    assert found["status"] == "delivered"
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["failed", "delivered"]
    assert "signal 9" in found["attempts"][0]["error"]
