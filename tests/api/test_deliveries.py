"""Deliveries over the API: what waits, what was tried, what became of it, and sending it again."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx

from tests.calls import alarm, new_server, new_webhook, opened
from tests.receivers import Receiver
from tests.service import Service, new_project
from tests.waiting import until

FIELDS = {
    "uuid", "event", "status", "reason", "incident_uuid", "integration_uuid", "integration_type", "on_behalf_of",
    "redelivery_of", "created_at", "due_at", "finished_at", "latency_ms", "attempts_count",
    "request_id",
}  # fmt: skip
ATTEMPT = {"number", "started_at", "duration_ms", "outcome", "status_code", "response", "error"}


async def finished(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await client.get(f"/api/v1/deliveries/{uuid}")).json()
        return found if found["status"] not in ("pending", "sending") else None

    return await until(look, what=f"the end of {uuid}")


async def of(client: httpx.AsyncClient, path: str, **asked: Any) -> tuple[list[dict[str, Any]], int]:
    answer = (await client.get(f"{path}/deliveries", params=asked)).json()
    return answer["data"], answer["meta"]["total_count"]


async def test_a_delivery_waits_until_an_engine_takes_it(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    incident = (await opened(app_client, alarm(server))).json()
    [delivery], total = await of(app_client, f"/api/v1/incidents/{incident['uuid']}")
    assert total == 1
    assert delivery.keys() == FIELDS
    assert (delivery["event"], delivery["status"], delivery["attempts_count"]) == ("opened", "pending", 0)
    assert (delivery["incident_uuid"], delivery["integration_uuid"]) == (incident["uuid"], webhook)
    assert (delivery["finished_at"], delivery["latency_ms"], delivery["reason"]) == (None, None, None)
    assert len(delivery["created_at"]) == len("2024-01-01T00:00:00.123Z")
    one = (await app_client.get(f"/api/v1/deliveries/{delivery['uuid']}")).json()
    assert one == {**delivery, "attempts": [], "late": None}
    assert (await of(app_client, f"/api/v1/integrations/{webhook}"))[0] == [delivery]


async def test_lists_are_newest_first_and_can_be_narrowed(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    incidents = [(await opened(app_client, alarm(server, kind))).json()["uuid"] for kind in ("a", "b", "c")]
    path = f"/api/v1/integrations/{webhook}"
    found, total = await of(app_client, path)
    assert [each["incident_uuid"] for each in found] == incidents[::-1]
    assert total == 3
    assert [each["incident_uuid"] for each in (await of(app_client, path, per_page=1, page=2))[0]] == [incidents[1]]
    assert await of(app_client, path, status="dead") == ([], 0)
    assert (await of(app_client, path, status="pending"))[1] == 3
    answer = await app_client.get(f"{path}/deliveries", params={"status": "lost"})
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (422, "status")


async def test_what_has_not_ended_is_not_sent_again(app_client: httpx.AsyncClient) -> None:
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/")
    waiting = (await app_client.post(f"/api/v1/integrations/{webhook}/test")).json()["uuid"]
    answer = await app_client.post(f"/api/v1/deliveries/{waiting}/redeliver")
    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")


async def test_deliveries_of_another_project_do_not_exist(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/")
    delivery = (await app_client.post(f"/api/v1/integrations/{webhook}/test")).json()["uuid"]
    stranger = await new_project(pool, vault)
    headers = {"Authorization": f"Bearer {stranger.api_token}"}
    for answer in (
        await app_client.get(f"/api/v1/deliveries/{delivery}", headers=headers),
        await app_client.post(f"/api/v1/deliveries/{delivery}/redeliver", headers=headers),
        await app_client.get("/api/v1/deliveries/DLV123"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "delivery_not_found")
    answer = await app_client.get(f"/api/v1/integrations/{webhook}/deliveries", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "integration_not_found")


async def test_a_delivery_that_arrived_shows_its_attempt_and_how_long_it_took(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    server = await new_server(client, "arrived")
    await new_webhook(client, receiver.url(), server)
    incident = (await opened(client, alarm(server))).json()
    [delivery], _ = await of(client, f"/api/v1/incidents/{incident['uuid']}")
    done = await finished(client, delivery["uuid"])
    assert done.keys() == FIELDS | {"attempts", "late"}
    assert (done["status"], done["attempts_count"]) == ("delivered", 1)
    assert 0 < done["latency_ms"] < 10_000
    [attempt] = done["attempts"]
    assert attempt.keys() == ATTEMPT
    assert (attempt["number"], attempt["outcome"], attempt["status_code"]) == (1, "delivered", 200)


async def test_a_delivered_one_is_sent_again_as_a_new_delivery_that_names_the_old(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    webhook = await new_webhook(client, receiver.url())
    first = await finished(client, (await client.post(f"/api/v1/integrations/{webhook}/test")).json()["uuid"])
    answer = await client.post(f"/api/v1/deliveries/{first['uuid']}/redeliver")
    assert answer.status_code == 202
    assert answer.json().keys() == FIELDS
    assert answer.json()["redelivery_of"] == first["uuid"]
    again = await finished(client, answer.json()["uuid"])
    assert (again["status"], again["uuid"] == first["uuid"]) == ("delivered", False)


async def test_what_was_sent_to_a_deleted_integration_cannot_be_sent_again(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    webhook = await new_webhook(client, receiver.url())
    done = await finished(client, (await client.post(f"/api/v1/integrations/{webhook}/test")).json()["uuid"])
    assert (await client.delete(f"/api/v1/integrations/{webhook}")).status_code == 204
    answer = await client.post(f"/api/v1/deliveries/{done['uuid']}/redeliver")
    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")


async def test_the_engine_counts_what_it_delivers(
    service: Service, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    webhook = await new_webhook(client, receiver.url())
    await finished(client, (await client.post(f"/api/v1/integrations/{webhook}/test")).json()["uuid"])
    line = 'tocsin_deliveries_total{outcome="delivered",type="Integrations::WebhookIntegration"}'

    async def look() -> bool:
        return line in (await client.get("/metrics")).text

    assert await until(look, what=line)
