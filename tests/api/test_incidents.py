"""Incidents over the API: opened from outside, one or a thousand; resolved, snoozed, listed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.calls import alarm, new_monitor, new_server, opened
from tests.service import new_project
from tocsin.domain import ids
from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.resources.base import kinds
from tocsin.storage.delivery import incidents

FIELDS = {
    "uuid", "status", "error_message", "closed_at", "snoozed_at", "snooze_until", "monitorable_type",
    "monitorable_uuid", "monitorable_name", "incident_type", "request", "request_headers", "response",
    "response_headers", "created_at", "updated_at", "severity", "acknowledged_at", "acknowledged_by",
    "acknowledged_until", "silenced_by",
}  # fmt: skip


async def count(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM incidents"))


async def test_an_incident_opened_from_outside_has_the_fields_of_the_page(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    answer = await opened(app_client, alarm(server))
    assert answer.status_code == 201
    incident = answer.json()
    assert incident.keys() == FIELDS
    assert incident["uuid"].startswith("INC")
    assert (incident["status"], incident["error_message"]) == ("ongoing", "Disk sda is failing")
    assert (incident["monitorable_type"], incident["monitorable_uuid"]) == ("Server", server)
    assert (incident["monitorable_name"], incident["incident_type"]) == ("my-server", "disk_failure")
    assert incident["closed_at"] is None
    assert (await app_client.get(f"/api/v1/incidents/{incident['uuid']}")).json() == incident


async def test_one_of_a_network_monitor_carries_its_name(app_client: httpx.AsyncClient) -> None:
    incident = (await opened(app_client, alarm(await new_monitor(app_client)))).json()
    assert (incident["monitorable_type"], incident["monitorable_name"]) == ("NetworkMonitor", "My Website")


async def test_what_is_ongoing_already_is_answered_with_200_and_not_opened_twice(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    first = await opened(app_client, alarm(server))
    again = await opened(app_client, alarm(server, message="Still failing"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert await count(pool) == 1
    assert (await opened(app_client, alarm(server, "other"))).status_code == 201


async def test_a_batch_of_a_thousand_is_opened_and_resolved_at_once(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    alarms = [alarm(server, f"kind_{number}") for number in range(1000)]
    answer = await opened(app_client, *alarms)
    assert answer.status_code == 201
    assert answer.json()["meta"] == {"opened": 1000, "already_ongoing": 0}
    assert [each["incident_type"] for each in answer.json()["data"]] == [each["incident_type"] for each in alarms]
    again = await opened(app_client, *alarms)
    assert (again.status_code, again.json()["meta"]) == (200, {"opened": 0, "already_ongoing": 1000})
    assert await count(pool) == 1000
    resolved = await app_client.post("/api/v1/incidents/resolve", json={"incidents": alarms})
    assert resolved.json()["meta"] == {"resolved": 1000, "not_ongoing": 0}


async def test_the_same_wish_twice_in_a_batch_is_one_incident(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    answer = (await opened(app_client, alarm(server), alarm(server))).json()
    assert answer["meta"] == {"opened": 1, "already_ongoing": 1}
    assert answer["data"][0] == answer["data"][1]


async def test_a_bad_member_is_named_by_its_index_and_none_is_opened(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    server = await new_server(app_client)
    stranger = await new_project(pool, vault)
    theirs = await new_server(app_client, "theirs", stranger.api_token)
    missing = ids.public(ids.SERVER, ids.new())
    for bad in (theirs, missing, "SRV123", "nonsense"):
        answer = await opened(app_client, alarm(server), alarm(server, "b"), {**alarm(server), "resource_uuid": bad})
        assert answer.status_code == 422
        assert [each["field"] for each in answer.json()["details"]] == ["incidents[2].resource_uuid"]
    bad_type = await opened(app_client, alarm(server), {**alarm(server), "incident_type": "Not Good"})
    assert [each["field"] for each in bad_type.json()["details"]] == ["incidents[1].incident_type"]
    assert await count(pool) == 0


async def test_a_uuid_of_the_other_kind_of_resource_is_refused(app_client: httpx.AsyncClient) -> None:
    answer = await opened(app_client, {**alarm(await new_server(app_client)), "resource_type": "NetworkMonitor"})
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["details"]] == ["resource_uuid"]


@pytest.mark.parametrize(
    ("message", "stored"),
    [
        ("x" * 2000, "x" * 2000), ("x" * 2001, "x" * 1999 + "…"), ("y" * 100_000, "y" * 1999 + "…"),
        ("x" * 1998 + "👩‍💻" * 5, "x" * 1998 + "…"), ("x" * 1990 + " " * 50, "x" * 1990 + "…"),
    ],
)  # fmt: skip
async def test_a_message_that_is_told_at_length_is_cut_and_nobody_misses_the_incident(
    app_client: httpx.AsyncClient, message: str, stored: str
) -> None:
    server = await new_server(app_client)
    one = await opened(app_client, {**alarm(server), "message": message})
    assert (one.status_code, one.json()["error_message"]) == (201, stored)
    path = f"/api/v1/incidents/{one.json()['uuid']}"
    assert (await app_client.get(path)).json()["error_message"] == stored
    wishes = [{**alarm(server), "incident_type": f"another_{number}", "message": message} for number in range(2)]
    several = await opened(app_client, *wishes)
    assert several.status_code == 201
    assert [each["error_message"] for each in several.json()["data"]] == [stored, stored]
    ended = await app_client.post("/api/v1/incidents/resolve", json={"incidents": wishes})
    assert (ended.status_code, ended.json()["meta"]["resolved"]) == (200, 2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"incident_type": ""}, "incident_type"),
        ({"incident_type": "disk failure"}, "incident_type"),
        ({"incident_type": "disk\n"}, "incident_type"),
        ({"incident_type": "a" * 65}, "incident_type"),
        ({"incident_type": 5}, "incident_type"),
        ({"message": ""}, "message"),
        ({"message": "  "}, "message"),
        ({"message": None}, "message"),
        ({"resource_type": "StatusPage"}, "resource_type"),
        ({"resource_uuid": None}, "resource_uuid"),
    ],
)
async def test_a_value_that_cannot_be_accepted_is_named(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, change: dict[str, Any], field: str
) -> None:
    answer = await opened(app_client, {**alarm(await new_server(app_client)), **change})
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["details"]] == [field]
    assert await count(pool) == 0


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/incidents/resolve"])
async def test_a_body_has_one_incident_or_several_and_not_too_many(app_client: httpx.AsyncClient, path: str) -> None:
    one = alarm("SRV123")
    for body, status in (
        ({}, 400),
        ({"incident": one, "incidents": [one]}, 422),
        ({"incidents": []}, 422),
        ({"incidents": [one] * 1001}, 422),
    ):
        assert (await app_client.post(path, json=body)).status_code == status


async def test_resolving_by_uuid_is_200_however_often(app_client: httpx.AsyncClient) -> None:
    incident = (await opened(app_client, alarm(await new_server(app_client)))).json()
    resolved = await app_client.post(f"/api/v1/incidents/{incident['uuid']}/resolve")
    assert resolved.status_code == 200
    assert resolved.json()["status"] == "resolved"
    assert resolved.json()["closed_at"] is not None
    again = await app_client.post(f"/api/v1/incidents/{incident['uuid']}/resolve")
    assert (again.status_code, again.json()) == (200, resolved.json())
    assert (await opened(app_client, alarm(incident["monitorable_uuid"]))).json()["uuid"] != incident["uuid"]


async def test_resolving_by_resource_and_type_says_what_was_not_ongoing(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    incident = (await opened(app_client, alarm(server))).json()
    named = {key: value for key, value in alarm(server).items() if key != "message"}
    absent = {**named, "incident_type": "fire"}
    answer = await app_client.post("/api/v1/incidents/resolve", json={"incidents": [absent, named]})
    assert answer.status_code == 200
    assert [(each["uuid"], each["status"]) for each in answer.json()["data"]] == [(incident["uuid"], "resolved")]
    assert answer.json()["not_ongoing"] == [absent]
    assert answer.json()["meta"] == {"resolved": 1, "not_ongoing": 1}
    again = await app_client.post("/api/v1/incidents/resolve", json={"incident": alarm(server)})
    assert (again.status_code, again.json()["meta"]) == (200, {"resolved": 0, "not_ongoing": 1})


async def test_nothing_of_another_project_can_be_seen_resolved_or_snoozed(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    incident = (await opened(app_client, alarm(await new_server(app_client)))).json()
    stranger = await new_project(pool, vault)
    headers = {"Authorization": f"Bearer {stranger.api_token}"}
    path = f"/api/v1/incidents/{incident['uuid']}"
    until = {"until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    for answer in (
        await app_client.get(path, headers=headers),
        await app_client.post(f"{path}/resolve", headers=headers),
        await app_client.post(f"{path}/snooze", headers=headers, json=until),
        await app_client.get(f"{path}/deliveries", headers=headers),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "incident_not_found")
    body = {"incident": alarm(incident["monitorable_uuid"])}
    by_name = await app_client.post("/api/v1/incidents/resolve", headers=headers, json=body)
    assert by_name.json()["meta"] == {"resolved": 0, "not_ongoing": 1}
    assert (await app_client.get("/api/v1/incidents", headers=headers)).json()["meta"]["total_count"] == 0
    assert (await app_client.get(path)).json() == incident


async def test_a_snooze_is_until_a_moment_that_is_to_come(app_client: httpx.AsyncClient) -> None:
    path = f"/api/v1/incidents/{(await opened(app_client, alarm(await new_server(app_client)))).json()['uuid']}"
    until = (datetime.now(UTC) + timedelta(hours=8)).replace(microsecond=0)
    snoozed = await app_client.post(f"{path}/snooze", json={"until": until.isoformat()})
    assert snoozed.status_code == 200
    assert snoozed.json()["snooze_until"] == until.isoformat().replace("+00:00", "Z")
    assert snoozed.json()["snoozed_at"] is not None
    assert snoozed.json()["status"] == "ongoing"
    edges = ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00")
    for bad in ("2020-01-01T00:00:00Z", *edges, "2030-01-01", 5, None):
        answer = await app_client.post(f"{path}/snooze", json={"until": bad})
        assert (answer.status_code, answer.json()["details"][0]["field"]) == (422, "until")
    await app_client.post(f"{path}/resolve")
    late = await app_client.post(f"{path}/snooze", json={"until": until.isoformat()})
    assert (late.status_code, late.json()["error"]) == (422, "unprocessable_entity")


async def test_the_list_has_ongoing_ones_first_then_the_newest(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    for kind in ("a", "b", "c", "d"):
        await opened(app_client, alarm(server, kind))
    for kind in ("d", "b"):
        await app_client.post("/api/v1/incidents/resolve", json={"incident": alarm(server, kind)})

    async def listed(**asked: Any) -> tuple[list[str], dict[str, int]]:
        answer = (await app_client.get("/api/v1/incidents", params=asked)).json()
        return [each["incident_type"] for each in answer["data"]], answer["meta"]

    assert await listed() == (
        ["c", "a", "d", "b"], {"current_page": 1, "per_page": 25, "total_pages": 1, "total_count": 4}
    )
    assert (await listed(status="ongoing"))[0] == ["c", "a"]
    assert (await listed(status="resolved"))[0] == ["d", "b"]
    assert await listed(per_page=3, page=1) == (
        ["c", "a", "d"], {"current_page": 1, "per_page": 3, "total_pages": 2, "total_count": 4}
    )
    assert (await listed(per_page=3, page=2))[0] == ["b"]
    assert (await listed(per_page=1, page=3))[0] == ["d"]
    assert (await listed(page=9))[0] == []
    assert (await listed(per_page=1000))[1]["per_page"] == 100


@pytest.mark.parametrize(("field", "value", "said"), [
    ("incident_type", "Not One\n", "must be of ASCII letters, digits and punctuation, without spaces"),
    ("incident_type", "", "must have at least 1 characters"),
    ("message", " ", "must not be blank"),
    ("resource_type", "server", f"must be one of: {', '.join(kinds())}; not 'server'"),
])
async def test_a_value_is_refused_in_words_and_not_in_patterns(
    app_client: httpx.AsyncClient, field: str, value: str, said: str
) -> None:
    wish = {**alarm(await new_server(app_client), "a"), field: value}
    answer = await app_client.post("/api/v1/incidents", json={"incident": wish})
    assert (answer.status_code, answer.json()["details"]) == (422, [{"field": field, "message": said}])


@pytest.mark.parametrize("address", ["/api/v1/incidents", "/api/v1/incidents/resolve"])
async def test_a_body_without_either_root_is_told_both(app_client: httpx.AsyncClient, address: str) -> None:
    answer = await app_client.post(address, json={})
    assert answer.status_code == 400
    assert '"incident" or "incidents"' in answer.json()["message"]


async def test_resolving_one_incident_leaves_the_one_that_has_taken_its_place(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    server = await new_server(app_client)
    first = (await opened(app_client, alarm(server))).json()
    await app_client.post(f"/api/v1/incidents/{first['uuid']}/resolve")
    second = (await opened(app_client, alarm(server))).json()
    stale = ids.parse(ids.INCIDENT, first["uuid"])
    row = await pool.fetchrow("SELECT project_id, resource_id FROM incidents WHERE id = $1", stale)
    async with pool.acquire() as tx, tx.transaction():
        closing = ResolveRequest(row["project_id"], row["resource_id"], "disk_failure", "a person", stale)
        assert await incidents.resolve(tx, [closing]) == [[]]
    shown = (await app_client.get(f"/api/v1/incidents/{second['uuid']}")).json()
    assert shown["status"] == "ongoing"
    resolved = await app_client.post(f"/api/v1/incidents/{second['uuid']}/resolve")
    assert resolved.json()["status"] == "resolved"
