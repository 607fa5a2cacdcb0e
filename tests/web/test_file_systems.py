"""File systems, swap, load, failed units and processes on the pages; and servers that are gone for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, signed_in, too_wide
from tests.reports import URL, only_server, sample
from tests.reports import report as body
from tests.service import Service

GB = 10**9
LONG = "/srv/" + "a-very-long-name-of-a-mount-point-" * 6


@pytest_asyncio.fixture
async def phone(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser, viewport={"width": 360, "height": 780})
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "422" not in said]


async def report(client: httpx.AsyncClient) -> str:
    """A machine with everything: its uuid."""
    now = datetime.now(UTC)
    given = body(
        sample("cpu_used", 97, now), sample("swap_used_b", 1 * GB, now), sample("load_1m", 6, now),
        cpu_cores=4, swap_total_bytes=4 * GB,
    ) | {
        "disks": [{"mount": "/", "used": 20 * GB, "total": 100 * GB, "inodes": 3.5},
                  {"mount": LONG, "used": 95 * GB, "total": 100 * GB, "inodes": None}],
        "failed_units": ["backup.service"],
        "processes": {"cpu": [{"name": "python3", "share": 91.2}], "ram": []},
    }  # fmt: skip
    answer = await client.post(URL, json=given)
    assert answer.json()["failure_count"] == 0, answer.text
    return str((await only_server(client))["uuid"])


async def incident(client: httpx.AsyncClient, words: str) -> Any:
    found = (await client.get("/api/v1/incidents?status=ongoing")).json()["data"]
    return next(each for each in found if words in each["error_message"])


async def silent_for_8_days(service: Service) -> None:
    connection = await asyncpg.connect(service.database)
    await connection.execute("UPDATE server_states SET seen_at = now() - interval '8 days'")
    await connection.close()


async def test_the_page_shows_file_systems_swap_load_and_failed_units_on_a_phone(
    service: Service, phone: Page, client: httpx.AsyncClient
) -> None:
    uuid = await report(client)
    await phone.goto(f"{service.url}/servers/{uuid}")
    assert not await too_wide(phone)
    rows = phone.locator("#disks li")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("95 %")  # the fullest first
    await expect(rows.last).to_contain_text("20 GB of 100 GB, 3.5 % of its inodes")
    now = phone.locator("#now .meters")
    await expect(now).to_contain_text("1.0 GB of 4.0 GB")
    await expect(now).to_contain_text("150 % of 4 cores")
    await expect(phone.locator("#units")).to_contain_text("backup.service")
    await expect(phone.get_by_role("img", name="Load in percent of the cores")).to_have_count(1)


async def test_one_file_system_gets_an_alert_of_its_own_by_the_form(
    service: Service, phone: Page, client: httpx.AsyncClient
) -> None:
    uuid = await report(client)
    await phone.goto(f"{service.url}/servers/{uuid}")
    await phone.get_by_text("Another alert for one file system").click()
    form = phone.locator("#own-disk")
    await form.get_by_label("File system").select_option("/")
    await form.get_by_label("Critical from").fill("15")
    await form.get_by_label("Warning from").fill("10")
    await form.get_by_role("button", name="Save").click()
    await expect(phone.get_by_role("status")).to_contain_text("The alert of / is saved")
    own = {"threshold": 15, "for": 0, "warning": {"threshold": 10, "for": 0}}
    assert (await only_server(client))["alerts"]["disks"] == {"/": own}
    await expect(phone.locator("#disks")).to_contain_text("alert at 15 %, a warning from 10 %")
    await phone.get_by_text("Another alert for one file system").click()
    await form.get_by_label("File system").select_option("/")
    await form.get_by_label("Critical from").fill("101")
    await form.get_by_role("button", name="Save").click()
    await expect(phone.get_by_role("status").or_(phone.get_by_role("alert"))).to_contain_text("must be a percentage")
    await phone.get_by_label("A systemd unit has failed").check()
    await phone.get_by_label("Swap is at or over").check()
    await phone.get_by_role("button", name="Save alerts").click()
    await expect(phone.get_by_role("status")).to_contain_text("Alerts saved")
    alerts = (await only_server(client))["alerts"]
    assert (alerts["unit_failed"], alerts["swap"]) == ({"for": 0}, {"threshold": 80, "for": 300})
    assert alerts["disks"] == {"/": own}, "the one form does not touch what the other says"


async def test_an_incident_shows_the_processes_that_used_most(
    service: Service, phone: Page, client: httpx.AsyncClient
) -> None:
    uuid = await report(client)
    await client.patch(f"/api/v1/servers/{uuid}", json={"server": {"alerts": {"cpu": {"for": 0}}}})
    await report(client)
    found = await incident(client, "CPU at")
    await phone.goto(f"{service.url}/incidents/{found['uuid']}")
    await expect(phone.locator("#processes")).to_contain_text("python3 91.2 %")
    assert not await too_wide(phone)


async def test_a_server_that_has_been_silent_for_7_days_is_offered_to_be_removed_and_to_nobody_who_only_reads(
    service: Service, phone: Page, client: httpx.AsyncClient
) -> None:
    uuid = await report(client)
    await phone.goto(f"{service.url}/servers/{uuid}")
    await expect(phone.locator("#gone")).to_have_count(0)
    await silent_for_8_days(service)
    await phone.goto(f"{service.url}/servers")
    await phone.get_by_role("link", name="Remove it?").click()
    assert not await too_wide(phone)
    ask, dialog = phone.locator("#gone").get_by_role("button", name="Remove web-1"), phone.get_by_role("dialog")
    await ask.click()
    await dialog.get_by_role("button", name="Cancel").click()
    assert await only_server(client), "asked first"
    await ask.click()
    await dialog.get_by_role("button", name="Remove web-1").click()
    await expect(phone.get_by_role("status")).to_contain_text("web-1 deleted")
    assert (await client.get("/api/v1/servers")).json() == []
    await report(client)
    await silent_for_8_days(service)
    await demote(service)
    await phone.goto(f"{service.url}/servers")
    await expect(phone.get_by_text("No report for more than 7 days")).to_have_count(1)
    await expect(phone.get_by_role("link", name="Remove it?")).to_have_count(0)
