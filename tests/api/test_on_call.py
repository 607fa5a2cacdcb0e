"""On-call schedules by API: made, changed, overridden, looked at, subscribed to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests import calendars
from tests.integration_calls import EMAIL, change, made, refused
from tests.service import new_project

ON_CALL = "Integrations::OnCallIntegration"


def settings(*members: str, **more: Any) -> dict[str, Any]:
    return {
        "timezone": "Europe/Vienna", "rotation": "weekly", "handover": "MO 09:00", "integrations": [*members], **more
    }  # fmt: skip


async def create(client: httpx.AsyncClient, given: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"integration": {"type": ON_CALL, "settings": given, **more}}
    return await client.post("/api/v1/integrations", json=body)


async def schedule_of(client: httpx.AsyncClient, *members: str, **more: Any) -> str:
    answer = await create(client, settings(*members, **more))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def people(client: httpx.AsyncClient, *names: str) -> list[str]:
    return [await made(client, EMAIL, name=name) for name in names]


async def override(client: httpx.AsyncClient, uuid: str, who: str, begin: datetime, end: datetime) -> httpx.Response:
    body = {"override": {"integration_id": who, "from": begin.isoformat(), "until": end.isoformat()}}
    return await client.post(f"/api/v1/integrations/{uuid}/overrides", json=body)


async def on_duty(client: httpx.AsyncClient, uuid: str) -> str | None:
    answer = await client.get(f"/api/v1/integrations/{uuid}/schedule")
    assert answer.status_code == 200, answer.text
    found: str | None = answer.json()["meta"]["on_duty"]
    return found


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


async def test_a_schedule_is_made_and_the_first_is_on_duty_from_now_on(app_client: httpx.AsyncClient) -> None:
    ann, ben = await people(app_client, "Ann", "Ben")
    answer = await create(app_client, settings(ann, ben), name="Operations")
    assert answer.status_code == 201
    assert answer.json()["settings"] == settings(ann, ben)
    uuid = answer.json()["uuid"]
    answer = await app_client.get(f"/api/v1/integrations/{uuid}/schedule")
    spans, meta = answer.json()["data"], answer.json()["meta"]
    assert [each["name"] for each in spans][:3] == ["Ann", "Ben", "Ann"]
    assert meta["on_duty"] == ann
    assert spans[0]["ends_at"] == spans[1]["starts_at"] == meta["until"]
    assert (spans[0]["starts_at"], spans[-1]["ends_at"]) == (meta["from"], meta["to"])


async def test_the_spans_of_another_time_can_be_asked_for_up_to_92_days(app_client: httpx.AsyncClient) -> None:
    ann, ben = await people(app_client, "Ann", "Ben")
    path = f"/api/v1/integrations/{await schedule_of(app_client, ann, ben)}/schedule"
    answer = await app_client.get(path, params={"from": "2031-03-24T00:00:00Z", "to": "2031-04-08T00:00:00Z"})
    # In Vienna clocks go forward on 30 March 2031: 09:00 there is 08:00 UTC before, 07:00 after.
    assert [each["starts_at"] for each in answer.json()["data"]] == [
        "2031-03-24T00:00:00Z", "2031-03-24T08:00:00Z", "2031-03-31T07:00:00Z", "2031-04-07T07:00:00Z",
    ]  # fmt: skip
    for params in (
        {"from": "2031-01-01T00:00:00Z", "to": "2031-06-01T00:00:00Z"},
        {"from": "2031-01-01T00:00:00Z", "to": "2031-01-01T00:00:00Z"}, {"to": "tomorrow"},
        {"to": "9999-12-31T23:59:59-23:59"},
    ):
        refused(await app_client.get(path, params=params), 422, "invalid_request", "to")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"rotation": "hourly"}, "rotation"),
        ({"handover": "09:00"}, "handover"),
        ({"rotation": "daily"}, "handover"),
        ({"handover": "MO 24:00"}, "handover"),
        ({"integrations": []}, "integrations"),
        ({"integrations": ["INT" + "0" * 26]}, "integrations"),
    ],
)
async def test_what_no_schedule_can_be_made_of_is_refused_by_its_field(
    app_client: httpx.AsyncClient, wrong: dict[str, Any], field: str
) -> None:
    ann, = await people(app_client, "Ann")
    refused(await create(app_client, settings(ann, **wrong)), 422, "invalid_request", f"settings.{field}")


async def test_only_integrations_of_the_same_project_that_notify_take_turns(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    ann, = await people(app_client, "Ann")
    ssh = {"ip": "203.0.113.5", "username": "admin", "password": "secret", "port": 22}
    body = {"integration": {"type": "Integrations::SshServerRestartIntegration", "settings": ssh}}
    restart = (await app_client.post("/api/v1/integrations", json=body)).json()["uuid"]
    uuid = await schedule_of(app_client, ann)
    own = app_client.headers["Authorization"]
    app_client.headers["Authorization"] = (await new_project(pool, vault)).api_token
    theirs, = await people(app_client, "Eve")
    refused(await app_client.get(f"/api/v1/integrations/{uuid}/schedule"), 404, "integration_not_found")
    refused(await app_client.get(f"/api/v1/integrations/{uuid}/overrides"), 404, "integration_not_found")
    refused(
        await override(app_client, uuid, theirs, now(), now() + timedelta(days=1)), 404, "integration_not_found"
    )
    app_client.headers["Authorization"] = own
    for wrong in (restart, uuid, theirs):
        answer = await create(app_client, settings(ann, wrong))
        refused(answer, 422, "invalid_request", "settings.integrations")
        answer = await change(app_client, uuid, settings={"integrations": [ann, wrong]})
        refused(answer, 422, "invalid_request", "settings.integrations")
        answer = await override(app_client, uuid, wrong, now(), now() + timedelta(days=1))
        refused(answer, 422, "invalid_request", "integration_id")
    refused(await create(app_client, settings(ann, ann)), 422, "invalid_request", "settings.integrations")


async def test_somebody_takes_over_and_gives_back(app_client: httpx.AsyncClient) -> None:
    ann, ben, dora = await people(app_client, "Ann", "Ben", "Dora")
    uuid = await schedule_of(app_client, ann, ben)
    path = f"/api/v1/integrations/{uuid}/overrides"
    answer = await override(app_client, uuid, dora, now() - timedelta(hours=1), now() + timedelta(hours=1))
    assert answer.status_code == 201
    assert await on_duty(app_client, uuid) == dora
    assert (await app_client.get(path)).json() == {"data": [answer.json()]}
    spans = (await app_client.get(f"/api/v1/integrations/{uuid}/schedule")).json()["data"]
    assert [(each["name"], each["override"]) for each in spans[:2]] == [("Dora", True), ("Ann", False)]
    assert (await app_client.delete(f"{path}/{answer.json()['uuid']}")).status_code == 204
    refused(await app_client.delete(f"{path}/{answer.json()['uuid']}"), 404, "override_not_found")
    assert await on_duty(app_client, uuid) == ann


async def test_overrides_that_cannot_be_are_refused_by_their_field(app_client: httpx.AsyncClient) -> None:
    ann, = await people(app_client, "Ann")
    uuid, day = await schedule_of(app_client, ann), timedelta(days=1)
    for begin, end in (
        (now(), now()), (now() + day, now()), (now() - 2 * day, now() - day), (now(), now() + 367 * day),
    ):
        refused(await override(app_client, uuid, ann, begin, end), 422, "invalid_request", "until")
    refused(await override(app_client, ann, ann, now(), now() + day), 422, "unprocessable_entity")
    for _ in range(100):
        assert (await override(app_client, uuid, ann, now(), now() + day)).status_code == 201
    refused(await override(app_client, uuid, ann, now(), now() + day), 422, "unprocessable_entity")


async def test_a_changed_list_leaves_whoever_is_on_duty_on_duty(app_client: httpx.AsyncClient) -> None:
    ann, ben, carl = await people(app_client, "Ann", "Ben", "Carl")
    uuid = await schedule_of(app_client, ann, ben)
    assert (await change(app_client, uuid, settings={"integrations": [carl, ben, ann]})).status_code == 200
    assert await on_duty(app_client, uuid) == ann
    assert (await change(app_client, uuid, settings={"rotation": "daily", "handover": "08:00"})).status_code == 200
    assert await on_duty(app_client, uuid) == ann
    assert (await change(app_client, uuid, settings={"integrations": [carl, ben]})).status_code == 200
    assert await on_duty(app_client, uuid) == carl
    names = [each["name"] for each in (await app_client.get(f"/api/v1/integrations/{uuid}/schedule")).json()["data"]]
    assert names[:3] == ["Carl", "Ben", "Carl"]


async def test_a_deleted_integration_leaves_all_schedules_and_the_next_is_on_duty(
    app_client: httpx.AsyncClient
) -> None:
    ann, ben, carl = await people(app_client, "Ann", "Ben", "Carl")
    uuid = await schedule_of(app_client, ann, ben, carl)
    assert (await override(app_client, uuid, ben, now(), now() + timedelta(days=1))).status_code == 201
    assert (await app_client.delete(f"/api/v1/integrations/{ann}")).status_code == 204
    assert (await app_client.delete(f"/api/v1/integrations/{ben}")).status_code == 204
    shown = (await app_client.get(f"/api/v1/integrations/{uuid}")).json()
    assert shown["settings"]["integrations"] == [carl]
    assert await on_duty(app_client, uuid) == carl
    assert (await app_client.get(f"/api/v1/integrations/{uuid}/overrides")).json() == {"data": []}
    assert (await app_client.delete(f"/api/v1/integrations/{carl}")).status_code == 204
    assert await on_duty(app_client, uuid) is None
    refused(await app_client.post(f"/api/v1/integrations/{uuid}/test"), 422, "unprocessable_entity")
    assert (await change(app_client, uuid, name="Nobody")).status_code == 200


async def test_a_test_goes_to_whoever_is_on_duty_on_behalf_of_the_schedule(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    ann, ben = await people(app_client, "Ann", "Ben")
    uuid = await schedule_of(app_client, ann, ben)
    answer = await app_client.post(f"/api/v1/integrations/{uuid}/test")
    assert (answer.status_code, answer.json()["integration_uuid"]) == (202, ann)
    async with pool.acquire() as tx:
        assert await tx.fetchval("SELECT count(*) FROM deliveries WHERE on_behalf_of IS NOT NULL") == 1
        await tx.execute("UPDATE integrations SET disabled_at = now() WHERE name = 'Ann'")
    answer = await app_client.post(f"/api/v1/integrations/{uuid}/test")
    assert answer.json()["integration_uuid"] == ben


async def test_calendar_programs_subscribe_to_who_is_on_duty(app_client: httpx.AsyncClient) -> None:
    long = "Änne; Müller, the one with a very long name — " + "ü" * 100
    ann, ben = await people(app_client, long, "Ben")
    uuid = await schedule_of(app_client, ann, ben)
    path = f"/api/v1/integrations/{uuid}"
    assert (await override(app_client, uuid, ben, now() + timedelta(hours=1), now() + timedelta(hours=2))).is_success
    url = (await app_client.get(f"{path}/schedule")).json()["meta"]["feed_url"]
    del app_client.headers["Authorization"]
    answer = await app_client.get(httpx.URL(url).path)
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    about, events = calendars.read(answer.content)
    assert about["NAME"] == "On Call"
    assert {event["SUMMARY"] for event in events} == {f"{long} is on call", "Ben is on call"}
    starts = [event["DTSTART"] for event in events]
    assert starts == sorted(starts)
    again = calendars.read((await app_client.get(httpx.URL(url).path)).content)[1]
    assert [event["UID"] for event in again] == [event["UID"] for event in events]


async def test_the_address_of_a_calendar_cannot_be_guessed_and_can_be_changed(
    app_client: httpx.AsyncClient
) -> None:
    ann, = await people(app_client, "Ann")
    path = f"/api/v1/integrations/{await schedule_of(app_client, ann)}"
    old = httpx.URL((await app_client.get(f"{path}/schedule")).json()["meta"]["feed_url"]).path
    assert (await app_client.get(old)).status_code == 200
    for wrong in (old[:-5] + "0.ics", old.partition("-")[0] + ".ics", "/oncall/x.ics", "/oncall/%F0%9F%98%80-é.ics"):
        if wrong != old:
            refused(await app_client.get(wrong), 404, "calendar_not_found")
    new = httpx.URL((await app_client.post(f"{path}/rotate_feed")).json()["feed_url"]).path
    assert new != old
    assert (await app_client.get(new)).status_code == 200
    refused(await app_client.get(old), 404, "calendar_not_found")
