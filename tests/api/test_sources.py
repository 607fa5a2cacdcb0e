"""Sources: made, changed and deleted; their addresses; what readers and strangers see of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service import PUBLIC_URL


async def made(client: httpx.AsyncClient, kind: str = "generic", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/sources", json={"source": {"type": kind, **fields}})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def path_of(source: dict[str, Any]) -> str:
    return str(source["url"]).removeprefix(PUBLIC_URL)


async def incidents(client: httpx.AsyncClient, status: str = "ongoing") -> list[dict[str, Any]]:
    return list((await client.get("/api/v1/incidents", params={"status": status, "per_page": 100})).json()["data"])


async def test_a_source_is_made_read_changed_and_deleted(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client, "alertmanager", name="Our cluster", settings={"ignore_labels": ["replica"]})
    assert source["uuid"].startswith("SRC")
    assert len(path_of(source).removeprefix("/in/")) == 32
    assert path_of(source).removeprefix("/in/").isalnum()
    at = f"/api/v1/sources/{source['uuid']}"
    assert (await app_client.get(at)).json() == source
    assert (await app_client.get("/api/v1/sources")).json()["data"] == [source]
    changed = (await app_client.patch(at, json={"source": {"name": "Theirs", "stale_after": 600}})).json()
    assert (changed["name"], changed["stale_after"], changed["settings"]) == ("Theirs", 600, source["settings"])
    assert (await app_client.delete(at)).status_code == 204
    assert (await app_client.get(at)).json()["error"] == "source_not_found"
    assert (await app_client.post(path_of(source), json={})).status_code == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "type"),
        ({"type": "nagios"}, "type"),
        ({"type": "generic", "stale_after": 5}, "stale_after"),
        ({"type": "generic", "signing_secret": "long enough"}, "signing_secret"),
        ({"type": "grafana", "signing_secret": "short"}, "signing_secret"),
        ({"type": "generic", "settings": {"ignore_labels": []}}, "settings.ignore_labels"),
        ({"type": "alertmanager", "settings": {"ignore_labels": ["a b"]}}, "settings.ignore_labels"),
        ({"type": "generic", "settings": {"map": {"status": "$.a"}}}, "settings.map.dedup_key"),
        ({"type": "generic", "settings": {"map": {"dedup_key": "$.a["}}}, "settings.map.dedup_key"),
        ({"type": "generic", "settings": {"map": {"dedup_key": "$.a[?search(@.b, '(a+)+$')]"}}},
         "settings.map.dedup_key"),
        ({"type": "generic", "settings": {"map": {"dedup_key": "$.a", "colour": "$.b"}}}, "settings.map.colour"),
    ],
)  # fmt: skip
async def test_what_a_source_cannot_be_is_refused_by_its_field(
    app_client: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    answer = await app_client.post("/api/v1/sources", json={"source": fields})
    assert answer.status_code == 422, answer.text
    assert [each["field"] for each in answer.json()["details"]] == [field]


async def test_a_source_has_a_new_address_and_the_old_one_is_known_no_more(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client)
    rotated = (await app_client.post(f"/api/v1/sources/{source['uuid']}/rotate")).json()
    assert rotated["url"] != source["url"]
    body = {"dedup_key": "a", "title": "disk"}
    assert (await app_client.post(path_of(rotated), json=body)).status_code == 200
    assert (await app_client.post(path_of(source), json=body)).status_code == 404


async def test_a_sources_key_is_also_taken_as_bearer_token_and_as_password(
    app_client: httpx.AsyncClient, visitor: httpx.AsyncClient
) -> None:
    source = await made(app_client)
    key, body = path_of(source).removeprefix("/in/"), {"dedup_key": "a", "title": "disk"}
    bearer = await visitor.post("/in", json=body, headers={"Authorization": f"Bearer {key}"})
    basic = await visitor.post("/in", json=body, auth=("whoever", key))
    assert (bearer.json()["opened"], basic.json()["ongoing"]) == (1, 1)
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !"}, {"Authorization": f"Bearer {key}x"}):
        answer = await visitor.post("/in", json=body, headers=wrong)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_source_is_attached_to_silenced_and_planned_for_like_a_server(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client)
    settings = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/"}}
    hook = (await app_client.post("/api/v1/integrations", json={"integration": settings})).json()["uuid"]
    at = f"/api/v1/sources/{source['uuid']}"
    assert (await app_client.post(f"{at}/integrations", json={"integration_id": hook})).status_code == 201
    plan = (await app_client.get(f"{at}/notification_plan", params={"incident_type": "disk"})).json()["data"]
    assert [(each["integration_uuid"], each["notified"]) for each in plan] == [(hook, True)]
    silence = {"name": "Quiet", "resources": [source["uuid"]], "ends_at": "2099-01-01T00:00:00Z"}
    assert (await app_client.post("/api/v1/silences", json={"silence": silence})).status_code == 201
    await app_client.post(path_of(source), json={"dedup_key": "a", "title": "disk"})
    [incident] = await incidents(app_client)
    assert incident["silenced_by"].startswith("SIL")
    assert (incident["monitorable_type"], incident["monitorable_uuid"]) == ("Source", source["uuid"])
    other = await made(app_client, depends_on=[source["uuid"]])
    assert other["depends_on"] == [source["uuid"]]


async def test_a_deleted_sources_incidents_are_resolved(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client)
    for key in ("a", "b"):
        await app_client.post(path_of(source), json={"dedup_key": key, "title": "disk"})
    assert len(await incidents(app_client)) == 2
    assert (await app_client.get(f"/api/v1/sources/{source['uuid']}")).json()["alerts_ongoing"] == 2
    await app_client.delete(f"/api/v1/sources/{source['uuid']}")
    assert not await incidents(app_client)


async def test_what_was_sent_is_kept_with_what_became_of_it_and_without_the_key(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client, "pagerduty")
    key = path_of(source).removeprefix("/in/")
    event = {"routing_key": key, "event_action": "trigger", "dedup_key": "d"}
    payload = {"summary": "full", "source": "db1", "severity": "error"}
    assert (await app_client.post("/v2/enqueue", json={**event, "payload": payload})).status_code == 202
    assert (await app_client.post("/v2/enqueue", json=event)).status_code == 400
    bodies = (await app_client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
    assert [each["kind"] for each in bodies] == ["refused", "taken"]
    assert [each["became"] for each in bodies] == ["'payload' must be an object", "1 opened"]
    assert all(key not in each["body"] and "********" in each["body"] for each in bodies)


async def test_only_the_last_twenty_bodies_that_are_not_understood_are_kept(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client)
    await app_client.post(path_of(source), json={"dedup_key": "good", "title": "disk"})
    for number in range(20):
        answer = await app_client.post(path_of(source), json={"number": number, "filling": "x" * 70_000})
        assert answer.status_code == 400
        assert "dedup_key is missing" in answer.json()["message"]
    bodies = (await app_client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
    assert [each["kind"] for each in bodies] == [*["refused"] * 20, "taken"]
    assert all(len(each["body"]) <= 65_536 < each["size"] for each in bodies[:-1])


async def test_a_mapping_is_tried_on_a_body_before_it_is_saved(app_client: httpx.AsyncClient) -> None:
    mapping = {"dedup_key": "$.check.id", "status": "$.check.state", "title": "$.check.name", "severity": "warning"}
    body = '{"check": {"id": 7, "state": "DOWN", "name": "web shop"}}'
    asked = {"source": {"type": "generic", "settings": {"map": mapping}}, "body": body}
    found = (await app_client.post("/api/v1/sources/preview", json=asked)).json()
    assert [(each["dedup_key"], each["status"], each["incident_type"], each["severity"])
            for each in found["alerts"]] == [("7", "firing", "web_shop", "warning")]
    assert not (await app_client.get("/api/v1/sources")).json()["data"]
