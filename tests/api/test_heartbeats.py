"""Heartbeats over the API: making, listing, changing, pausing and deleting them; and all that is below any resource."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from tests.calls import new_webhook
from tests.heartbeat_scene import incidents_of, new_heartbeat, shown
from tests.service import new_project
from tests.users import bearer, token_of

PATH = "/api/v1/heartbeats"


async def change(client: httpx.AsyncClient, made: dict[str, Any], **fields: Any) -> httpx.Response:
    return await client.patch(f"{PATH}/{made['uuid']}", json={"heartbeat": fields})


async def ping(client: httpx.AsyncClient, made: dict[str, Any], suffix: str = "") -> None:
    answer = await client.get(urlsplit(made["ping_url"]).path + suffix, headers={"Authorization": ""})
    assert (answer.status_code, answer.text) == (200, "OK")


async def test_a_name_alone_makes_a_heartbeat_with_the_documented_defaults(app_client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(app_client, name="Nightly Backup!")
    assert re.fullmatch("HB[0-9A-Z]{26}", made.pop("uuid"))
    assert re.fullmatch(r"http://tocsin\.test/ping/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made.pop("ping_url"))
    for time in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.pop(time))
    assert made == {
        "name": "Nightly Backup!", "slug": "nightly-backup", "status": "new", "period": 86_400, "cron": None,
        "timezone": "UTC", "grace": 3_600, "methods": "", "paused": False, "last_ping_at": None,
        "last_success_at": None, "next_due_at": None, "last_duration_ms": None, "running_since": None,
        "open_incident_uuids": [], "explained_by": [], "depends_on": [],
    }  # fmt: skip


async def test_every_setting_comes_back_as_it_was_given(app_client: httpx.AsyncClient) -> None:
    given = {
        "name": "Backup", "slug": "db_backup-1", "period": None, "cron": "0 3 * * 1-5", "timezone": "Europe/Vienna",
        "grace": 90.5, "methods": "POST", "paused": True,
    }  # fmt: skip
    made = await new_heartbeat(app_client, **given)
    assert {name: made[name] for name in given} == given
    assert made["status"] == "paused"
    assert await shown(app_client, made) == made


async def test_a_period_and_a_cron_expression_replace_each_other(app_client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(app_client, cron="*/5 * * * *")
    assert (made["period"], made["cron"]) == (None, "*/5 * * * *")
    changed = (await change(app_client, made, grace=60)).json()
    assert (changed["period"], changed["cron"]) == (None, "*/5 * * * *")
    changed = (await change(app_client, made, period=600)).json()
    assert (changed["period"], changed["cron"]) == (600, None)
    changed = (await change(app_client, made, period=None, cron="0 3 * * *")).json()
    assert (changed["period"], changed["cron"]) == (None, "0 3 * * *")
    changed = (await change(app_client, made, cron=None)).json()
    assert (changed["period"], changed["cron"]) == (86_400, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": None}, "name"), ({"name": " "}, "name"), ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"), ({"slug": "Upper"}, "slug"), ({"slug": "a/b"}, "slug"),
        ({"slug": "x" * 101}, "slug"), ({"period": 0.5}, "period"), ({"period": "60"}, "period"),
        ({"period": 1e300}, "period"), ({"period": 60, "cron": "0 3 * * *"}, "period"), ({"cron": "nightly"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"), ({"cron": "* " * 200}, "cron"), ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"grace": 0}, "grace"), ({"grace": -1}, "grace"), ({"methods": "GET"}, "methods"),
        ({"paused": "yes"}, "paused"), ({"depends_on": ["HB1"]}, "depends_on[0]"),
    ],
)  # fmt: skip
async def test_what_cannot_be_accepted_is_refused_by_field_and_changes_nothing(
    app_client: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    answer = await app_client.post(PATH, json={"heartbeat": {"name": "Backup", **fields}})
    assert answer.status_code == 422, answer.text
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    made = await new_heartbeat(app_client)
    answer = await change(app_client, made, **fields)
    assert answer.status_code == 422, answer.text
    assert await shown(app_client, made) == made


async def test_those_in_trouble_come_first_and_the_paused_last(app_client: httpx.AsyncClient) -> None:
    names = {name: await new_heartbeat(app_client, name=name) for name in ("alpha", "beta", "gamma", "delta")}
    await ping(app_client, names["gamma"], "/fail")
    await change(app_client, names["alpha"], paused=True)
    listed = (await app_client.get(PATH, params={"per_page": 3})).json()
    assert [each["name"] for each in listed["data"]] == ["gamma", "beta", "delta"]
    assert listed["meta"] == {
        "current_page": 1, "per_page": 3, "total_pages": 2, "total_count": 4, "sort": "status",
    }  # fmt: skip
    found = (await app_client.get(PATH, params={"search": "ET", "sort": "created_at"})).json()
    assert [each["name"] for each in found["data"]] == ["beta"]


async def test_pausing_resolves_and_resuming_begins_anew(app_client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(app_client)
    await ping(app_client, made, "/fail")
    assert (await change(app_client, made, paused=True)).json()["status"] == "paused"
    (incident,) = await incidents_of(app_client, made)
    assert incident["status"] == "resolved"
    await ping(app_client, made, "/fail")
    assert (await shown(app_client, made))["status"] == "paused"
    assert (await change(app_client, made, paused=False)).json()["status"] == "up"


async def test_a_new_address_ends_the_old_one(app_client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(app_client)
    moved = (await app_client.post(f"{PATH}/{made['uuid']}/rotate")).json()
    assert moved["ping_url"] != made["ping_url"]
    old = await app_client.get(urlsplit(made["ping_url"]).path)
    assert (old.status_code, old.text) == (404, "not found")
    await ping(app_client, moved)


async def test_readers_do_not_see_where_to_ping(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, project: Any
) -> None:
    made = await new_heartbeat(app_client)
    await app_client.post("/api/v1/ping_key/rotate")
    seen = bearer(await token_of(pool, vault, project, "reader"))
    found = (await app_client.get(f"{PATH}/{made['uuid']}", headers=seen)).json()
    assert found["ping_url"] == "http://tocsin.test/ping/********"
    assert (await app_client.get("/api/v1/ping_key", headers=seen)).json()["ping_key"] == "********"
    assert (await app_client.post(f"{PATH}/{made['uuid']}/rotate", headers=seen)).status_code == 403


async def test_a_heartbeat_has_all_that_any_resource_has(app_client: httpx.AsyncClient) -> None:
    router = await new_heartbeat(app_client, name="Router")
    made = await new_heartbeat(app_client, name="Backup", depends_on=[router["uuid"]])
    assert made["depends_on"] == [router["uuid"]]
    webhook = await new_webhook(app_client, "http://203.0.113.7/hook")
    below = f"{PATH}/{made['uuid']}"
    attached = await app_client.post(f"{below}/integrations", json={"integration_id": webhook})
    assert attached.status_code == 201
    assert [each["uuid"] for each in (await app_client.get(f"{below}/integrations")).json()] == [webhook]
    plan = (await app_client.get(f"{below}/notification_plan", params={"incident_type": "missed"})).json()["data"]
    assert [(each["integration_uuid"], each["notified"]) for each in plan] == [(webhook, True)]
    silence = {"name": "Maintenance", "ends_at": "2099-01-01T00:00:00Z", "resources": [made["uuid"]]}
    assert (await app_client.post("/api/v1/silences", json={"silence": silence})).status_code == 201
    incident = {"resource_type": "Heartbeat", "resource_uuid": made["uuid"], "incident_type": "odd", "message": "Odd"}
    assert (await app_client.post("/api/v1/incidents", json={"incident": incident})).status_code == 201
    drill = {"resource": made["uuid"]}
    assert (await app_client.post("/api/v1/drills", json={"drill": drill})).status_code in (201, 422)
    assert (await app_client.get(f"{below}/notification_plan", params={"incident_type": "missed"})).status_code == 200
    assert (await app_client.delete(f"{PATH}/{router['uuid']}")).status_code == 204
    assert (await shown(app_client, made))["depends_on"] == []
    assert (await app_client.delete(below)).status_code == 204
    assert (await app_client.get(below)).status_code == 404
    assert {each["status"] for each in await incidents_of(app_client, made)} == {"resolved"}


async def test_an_integration_attached_to_everything_is_attached_to_new_heartbeats(
    app_client: httpx.AsyncClient
) -> None:
    webhook = await new_webhook(app_client, "http://203.0.113.7/hook")
    assert (await app_client.post(f"/api/v1/integrations/{webhook}/attach_all")).status_code == 200
    made = await new_heartbeat(app_client)
    attached = (await app_client.get(f"{PATH}/{made['uuid']}/integrations")).json()
    assert [each["uuid"] for each in attached] == [webhook]


async def test_another_projects_heartbeats_are_not_found(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    made = await new_heartbeat(app_client)
    other = await new_project(pool, vault)
    app_client.headers["Authorization"] = f"Bearer {other.api_token}"
    answers = [
        await app_client.get(f"{PATH}/{made['uuid']}"), await change(app_client, made, name="Mine"),
        await app_client.delete(f"{PATH}/{made['uuid']}"), await app_client.get(f"{PATH}/{made['uuid']}/pings"),
        await app_client.get(f"{PATH}/{made['uuid']}/pings/1/body"),
        await app_client.post(f"{PATH}/{made['uuid']}/rotate"),
    ]  # fmt: skip
    assert [(each.status_code, each.json()["error"]) for each in answers] == [(404, "heartbeat_not_found")] * 6
    assert (await app_client.get(PATH)).json()["data"] == []
