"""Silences over the API: making, listing, changing, ending and deleting them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.calls import new_monitor, new_server, new_webhook
from tests.service import new_project
from tocsin.domain import ids

PATH = "/api/v1/silences"
SUNDAY = {"rrule": "FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0;BYSECOND=0", "duration": 7200, "timezone": "Europe/Vienna"}


def later(hours: float) -> str:
    return f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


async def ask(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post(PATH, json={"silence": {"name": "Night", **fields}})


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await ask(client, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def change(client: httpx.AsyncClient, silence: dict[str, Any], **fields: Any) -> httpx.Response:
    return await client.patch(f"{PATH}/{silence['uuid']}", json={"silence": fields})


def field_of(answer: httpx.Response) -> str:
    assert answer.status_code == 422, answer.text
    return answer.json()["details"][0]["field"]


async def test_a_name_and_an_end_silence_everything_from_now_on(app_client: httpx.AsyncClient) -> None:
    end = later(1)
    made = await make(app_client, ends_at=end)
    assert re.fullmatch("SIL[0-9A-Z]{26}", made.pop("uuid"))
    start = made.pop("starts_at")
    for time in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.pop(time))
    assert made == {
        "name": "Night", "state": "active", "ends_at": end, "recurrence": None, "resources": None,
        "integrations": None, "incident_types": None, "severity": None, "public": False,
        "next": [{"starts_at": start, "ends_at": end}],
    }  # fmt: skip


async def test_every_setting_comes_back_as_it_was_given(app_client: httpx.AsyncClient) -> None:
    server, monitor = await new_server(app_client), await new_monitor(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    given = {
        "name": "Sunday", "starts_at": "2098-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z", "recurrence": SUNDAY,
        "resources": [server, monitor], "integrations": [webhook], "incident_types": ["disk", "cpu"],
        "severity": "warning", "public": True,
    }  # fmt: skip
    made = await make(app_client, **given)
    assert {name: made[name] for name in given} == given
    assert made["state"] == "planned"
    assert [span["starts_at"] for span in made["next"]] == [
        f"2098-{day}T01:00:00Z" for day in ("01-05", "01-12", "01-19", "01-26", "02-02")
    ]
    assert (await app_client.get(f"{PATH}/{made['uuid']}")).json() == made


async def test_a_list_has_the_newest_first_and_can_be_of_one_state(app_client: httpx.AsyncClient) -> None:
    active = await make(app_client, ends_at=later(1))
    planned = await make(app_client, starts_at=later(1), ends_at=later(2))
    ended = (await app_client.post(f"{PATH}/{(await make(app_client, ends_at=later(1)))['uuid']}/end")).json()
    listed = (await app_client.get(PATH)).json()
    assert [each["uuid"] for each in listed["data"]] == [ended["uuid"], planned["uuid"], active["uuid"]]
    for state, each in (("active", active), ("planned", planned), ("ended", ended)):
        found = (await app_client.get(f"{PATH}?state={state}&per_page=1")).json()
        assert [one["uuid"] for one in found["data"]] == [each["uuid"]]
        assert found["meta"]["total_count"] == 1
    assert field_of(await app_client.get(f"{PATH}?state=loud")) == "state"


async def test_an_ended_silence_has_no_spans_any_more_and_ending_it_again_changes_nothing(
    app_client: httpx.AsyncClient
) -> None:
    made = await make(app_client, recurrence=SUNDAY)
    ended = (await app_client.post(f"{PATH}/{made['uuid']}/end")).json()
    assert (ended["state"], ended["next"]) == ("ended", [])
    assert ended["ends_at"] is not None
    assert (await app_client.post(f"{PATH}/{made['uuid']}/end")).json() == ended


async def test_what_is_left_out_of_a_change_stays(app_client: httpx.AsyncClient) -> None:
    server = await new_server(app_client)
    made = await make(app_client, recurrence=SUNDAY, resources=[server], severity="warning")
    changed = (await change(app_client, made, name="Sundays")).json()
    assert {**changed, "updated_at": ""} == {**made, "name": "Sundays", "updated_at": ""}
    changed = (await change(app_client, made, resources=None, severity=None, recurrence=None, ends_at=later(2))).json()
    assert (changed["resources"], changed["severity"], changed["recurrence"]) == (None, None, None)
    assert changed["state"] == "active"


async def test_a_silence_that_has_ended_can_be_renamed_and_begun_anew(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, starts_at=later(-2), ends_at=later(1))
    await app_client.post(f"{PATH}/{made['uuid']}/end")
    assert (await change(app_client, made, name="Over")).json()["state"] == "ended"
    assert (await change(app_client, made, ends_at=later(1))).json()["state"] == "active"


async def test_a_deleted_silence_is_gone(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, ends_at=later(1))
    assert (await app_client.delete(f"{PATH}/{made['uuid']}")).status_code == 204
    for answer in (
        await app_client.get(f"{PATH}/{made['uuid']}"), await app_client.delete(f"{PATH}/{made['uuid']}"),
        await app_client.post(f"{PATH}/{made['uuid']}/end"), await change(app_client, made, name="x"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["error"]) == (404, "silence_not_found")


async def test_what_is_not_of_this_project_is_refused_by_its_place_in_the_list(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    server = await new_server(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    own = app_client.headers["Authorization"]
    app_client.headers["Authorization"] = f"Bearer {(await new_project(pool, vault)).api_token}"
    theirs = await new_server(app_client)
    hook = await new_webhook(app_client, "http://127.0.0.1:9/", theirs)
    app_client.headers["Authorization"] = own
    for wrong in (theirs, webhook, "x", "", ids.public(ids.SERVER, ids.new())):
        assert field_of(await ask(app_client, ends_at=later(1), resources=[server, wrong])) == "resources[1]"
    for wrong in (hook, server, ids.public(ids.INTEGRATION, ids.new())):
        assert field_of(await ask(app_client, ends_at=later(1), integrations=[webhook, wrong])) == "integrations[1]"
    made = await make(app_client, ends_at=later(1), resources=[server])
    assert field_of(await change(app_client, made, resources=[theirs])) == "resources[0]"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "ends_at"),
        ({"ends_at": "2020-01-01T00:00:00Z", "starts_at": "2019-01-01T00:00:00Z"}, "ends_at"),
        ({"ends_at": "2098-01-01T00:00:00Z", "starts_at": "2098-01-01T00:00:00Z"}, "ends_at"),
        ({"ends_at": "2098-01-01T00:00:00Z", "starts_at": "2098-01-02T00:00:00Z"}, "ends_at"),
        ({"ends_at": "9999-12-31T23:59:59-23:59"}, "ends_at"),
        ({"ends_at": "2098-01-01T00:00:00"}, "ends_at"),
        ({"ends_at": "2098-01-01T00:00:00Z", "name": " "}, "name"),
        ({"ends_at": "2098-01-01T00:00:00Z", "resources": []}, "resources"),
        ({"ends_at": "2098-01-01T00:00:00Z", "integrations": []}, "integrations"),
        ({"ends_at": "2098-01-01T00:00:00Z", "incident_types": []}, "incident_types"),
        ({"ends_at": "2098-01-01T00:00:00Z", "incident_types": ["a b"]}, "incident_types[0]"),
        ({"ends_at": "2098-01-01T00:00:00Z", "resources": ["SRV"] * 1001}, "resources"),
        ({"ends_at": "2098-01-01T00:00:00Z", "severity": "loud"}, "severity"),
        ({"recurrence": {**SUNDAY, "timezone": "Mars/Olympus"}}, "recurrence.timezone"),
        ({"recurrence": {**SUNDAY, "duration": 0}}, "recurrence.duration"),
        ({"recurrence": {**SUNDAY, "duration": 8 * 86_400}}, "recurrence.duration"),
        ({"recurrence": {**SUNDAY, "rrule": "FREQ=SECONDLY"}}, "recurrence.rrule"),
        ({"recurrence": {**SUNDAY, "rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}}, "recurrence.rrule"),
        ({"recurrence": {**SUNDAY, "rrule": "FREQ=DAILY;UNTIL=20200101T000000Z"},
          "starts_at": "2019-01-01T00:00:00Z"}, "recurrence.rrule"),
        # The end of the first span is no end of the recurrence.
        ({"recurrence": SUNDAY, "starts_at": "2098-01-05T01:00:00Z", "ends_at": "2098-01-05T03:00:00Z"}, "ends_at"),
    ],
)  # fmt: skip
async def test_what_cannot_be_a_silence_is_refused_by_its_field(
    app_client: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    assert field_of(await ask(app_client, **fields)) == field
    assert (await app_client.get(PATH)).json()["meta"]["total_count"] == 0


async def test_deleting_what_a_silence_names_takes_it_out_and_never_widens_the_silence(
    app_client: httpx.AsyncClient
) -> None:
    server, monitor = await new_server(app_client), await new_monitor(app_client)
    webhook = await new_webhook(app_client, "http://127.0.0.1:9/", server)
    both = await make(app_client, ends_at=later(1), resources=[server, monitor])
    alone = await make(app_client, ends_at=later(1), resources=[server])
    quiet = await make(app_client, recurrence=SUNDAY, integrations=[webhook])
    assert (await app_client.delete(f"/api/v1/servers/{server}")).status_code == 204
    assert (await app_client.delete(f"/api/v1/integrations/{webhook}")).status_code == 204
    found = {each["uuid"]: each for each in (await app_client.get(PATH)).json()["data"]}
    assert (found[both["uuid"]]["resources"], found[both["uuid"]]["state"]) == ([monitor], "active")
    assert (found[alone["uuid"]]["resources"], found[alone["uuid"]]["state"]) == ([], "ended")
    assert (found[quiet["uuid"]]["integrations"], found[quiet["uuid"]]["state"]) == ([], "ended")
    assert (await app_client.delete(f"/api/v1/network_monitors/{monitor}")).status_code == 204
    assert (await app_client.get(f"{PATH}/{both['uuid']}")).json()["state"] == "ended"


async def test_a_project_has_ten_thousand_silences_at_most(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, project: Any
) -> None:
    async with pool.acquire() as tx:
        await tx.execute(
            """INSERT INTO silences (id, project_id, name, starts_at, ends_at, expanded_until)
               SELECT new_id(), $1, 'x', now(), now() + interval '1 h', now() FROM generate_series(1, 10000)""",
            project.id,
        )
    answer = await ask(app_client, ends_at=later(1))
    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")


async def test_the_audit_log_says_what_was_changed(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    made = await make(app_client, ends_at=later(1))
    await change(app_client, made, name="Nights", public=True)
    await change(app_client, made, name="Nights")
    await app_client.post(f"{PATH}/{made['uuid']}/end")
    await app_client.delete(f"{PATH}/{made['uuid']}")
    async with pool.acquire() as tx:
        rows = await tx.fetch("SELECT action, subject, details FROM audit ORDER BY id")
    uuid = {"uuid": made["uuid"]}
    assert [tuple(row) for row in rows][-4:] == [
        ("made silence", "Night", uuid), ("changed silence", "Night", {**uuid, "fields": ["name", "public"]}),
        ("ended silence", "Nights", uuid), ("deleted silence", "Nights", uuid),
    ]  # fmt: skip
