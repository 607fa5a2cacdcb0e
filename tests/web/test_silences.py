"""Silences in a real browser: from a resource's page in two clicks, by form, in the calendar; ended and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.calls import new_monitor, new_server
from tests.service import Service
from tocsin.web.calendar import Entry, bounds, two_weeks

PATH = "/api/v1/silences"


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser, timezone_id="Europe/Vienna")
    await page.context.add_cookies([{"name": "zone", "value": "Europe/Vienna", "url": service.url}])
    yield page


async def silences(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get(PATH)).json()["data"]


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    ends = f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    answer = await client.post(PATH, json={"silence": {"name": "Night", "ends_at": ends, **fields}})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_two_clicks_on_a_resource_s_page_silence_it(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    places = {f"/servers/{await new_server(client)}": "1 h", f"/network_monitors/{await new_monitor(client)}": "until"}
    for path, button in places.items():
        await page.goto(f"{service.url}{path}")
        await page.get_by_text("Silence it").click()
        await page.get_by_role("button", name=button).click()
        await expect(page.locator("#silences .badge")).to_have_text("Silent")
        assert page.url.startswith(f"{service.url}{path}")
    morning, hour = await silences(client)
    assert [hour["resources"], morning["resources"]] == [[path.rpartition("/")[2]] for path in places]
    assert hour["state"] == morning["state"] == "active"
    assert morning["ends_at"][11:] in ("05:00:00Z", "06:00:00Z")  # 07:00 there
    await page.get_by_text("Silence it").click()
    await page.get_by_role("button", name="every Sunday 02:00–04:00").click()
    sundays = (await silences(client))[0]
    assert sundays["recurrence"] == {"rrule": "FREQ=WEEKLY;BYDAY=SU", "duration": 7200, "timezone": "Europe/Vienna"}
    assert {span["starts_at"][11:] for span in sundays["next"]} <= {"00:00:00Z", "01:00:00Z"}
    assert datetime.fromisoformat(sundays["next"][0]["starts_at"]).weekday() == 6


async def test_a_silence_is_made_changed_ended_and_deleted_by_form(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    monitor = await new_monitor(client)
    await page.goto(f"{service.url}/silences")
    await page.get_by_role("link", name="Plan the first one").click()
    await page.get_by_label("Name").fill("Backups")
    await page.get_by_label("From").fill("2031-01-05T02:00")
    await page.get_by_label("To", exact=True).fill("2031-01-05T01:00")
    await page.get_by_label("Repeat", exact=True).select_option("Every day")
    await page.get_by_text("About what: everything").click()
    await page.locator(f"input[value={monitor}]").check()
    await page.get_by_role("button", name="Create silence").click()
    await expect(page.locator("#to-error")).to_have_text("must be after the beginning")
    await expect(page.locator(f"input[value={monitor}]")).to_be_checked()
    await page.get_by_label("To", exact=True).fill("2031-01-05T04:00")
    await page.get_by_role("button", name="Create silence").click()
    await expect(page.get_by_role("status")).to_contain_text("Planned: Backups.")
    [made] = await silences(client)
    assert made["recurrence"] == {"rrule": "FREQ=DAILY", "duration": 7200, "timezone": "Europe/Vienna"}
    assert (made["starts_at"], made["resources"], made["state"]) == ("2031-01-05T01:00:00Z", [monitor], "planned")
    assert await page.get_by_label("From").input_value() == "2031-01-05T02:00"
    await page.get_by_label("Name").fill("Nightly backups")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    [changed] = await silences(client)
    assert {**changed, "updated_at": ""} == {**made, "name": "Nightly backups", "updated_at": ""}
    await page.get_by_role("button", name="End now").click()
    await page.get_by_role("dialog").get_by_role("button", name="End now").click()
    await expect(page.locator(".badge")).to_have_text("ended")
    await page.get_by_role("button", name="Delete silence").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete silence").click()
    await expect(page.get_by_role("status")).to_have_text("Nightly backups deleted.")
    assert await silences(client) == []


async def test_the_list_and_the_calendar_show_what_is_and_what_will_be_on_a_phone_too(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    rule = {"rrule": "FREQ=DAILY;BYHOUR=3;BYMINUTE=0;BYSECOND=0", "duration": 3600, "timezone": "UTC"}
    made = [
        await make(client), await make(client, name="long" * 40, ends_at=None, recurrence=rule, severity="warning"),
        await make(client, name="Over"),
    ]  # fmt: skip
    await client.post(f"{PATH}/{made[2]['uuid']}/end")
    server = await new_server(client)
    phone = await signed_in(service, browser, viewport={"width": 360, "height": 800}, color_scheme="dark")
    console = Console(phone)
    paths = ("/silences", "/silences/new", f"/silences/{made[1]['uuid']}", f"/servers/{server}")
    for path in paths:
        await phone.goto(f"{service.url}{path}")
        assert await findings(phone) == []
        assert not await too_wide(phone), path
    assert console.said == []
    await phone.goto(f"{service.url}/silences")
    await expect(phone.locator(".calendar > li")).to_have_count(14)
    await expect(phone.locator(".calendar li.silence", has_text="03:00–04:00")).not_to_have_count(0)
    await expect(phone.locator(".list .badge").first).to_have_text("Silent")
    await phone.get_by_role("button", name="End Night").click()
    assert {each["name"]: each["state"] for each in await silences(client)}["Night"] == "ended"


async def test_a_reader_sees_silences_and_can_change_none(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    made, server = await make(client), await new_server(client)
    await page.goto(f"{service.url}/silences/{made['uuid']}")
    token = await page.locator("main input[name=csrf]").first.input_value()
    await demote(service)
    for path in ("/silences", "/silences/new", f"/silences/{made['uuid']}"):
        await page.goto(f"{service.url}{path}")
        assert await page.locator("main form").count() == 0, path
    for path in ("", "/quick", *(f"/{made['uuid']}{verb}" for verb in ("", "/end", "/delete"))):
        form = {"csrf": token, "resource": server, "for": "hour"}
        answer = await page.request.post(f"{service.url}/silences{path}", form=form)
        assert answer.status == 403, path
    assert [each["state"] for each in await silences(client)] == ["active"]


def test_a_calendar_has_days_of_the_reader_s_zone_also_where_clocks_change() -> None:
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    night = datetime(2026, 3, 28, 22, tzinfo=UTC)  # 23:00 there
    entries = [
        Entry("Night", "silence", night, night + timedelta(hours=4), "/a"),
        Entry("Always", "duty", now - timedelta(days=9), now + timedelta(days=90), "/b"),
        Entry("Evening", "silence", night - timedelta(hours=2), night + timedelta(hours=1), "/c"),
    ]
    days = two_weeks(entries, "Europe/Vienna", now)
    assert [day.date.day for day in days] == [28, 29, 30, 31, *range(1, 11)]
    assert [(line.entry.title, line.times) for line in days[0].lines] == [
        ("Always", "all day"), ("Evening", "21:00–24:00"), ("Night", "from 23:00"),
    ]  # fmt: skip
    second = [(line.entry.title, line.times) for line in days[1].lines]
    assert second == [("Always", "all day"), ("Night", "until 04:00")]
    start, end = bounds("Europe/Vienna", now)
    assert (end - start) == timedelta(days=14) - timedelta(hours=1)
    many = two_weeks(entries * 5, "Europe/Vienna", now)
    assert (len(many[0].lines), many[0].more) == (6, 9)
