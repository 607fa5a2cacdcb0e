"""Who is notified, on the page of a server or a monitor: the time line, changed by form, by dragging, and asked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser import Console, browser, demote, findings, signed_in, too_wide
from tests.calls import new_monitor, new_server
from tests.service import Service
from tocsin.web import attachment_form

__all__ = ["browser"]

SECONDS = 90


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser, timezone_id="Europe/Vienna")
    await page.context.add_cookies([{"name": "zone", "value": "Europe/Vienna", "url": service.url}])
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def webhook(client: httpx.AsyncClient, name: str) -> str:
    settings = {"webhook_url": "https://example.com/hook"}
    given = {"type": "Integrations::WebhookIntegration", "name": name, "settings": settings}
    return str((await client.post("/api/v1/integrations", json={"integration": given})).json()["uuid"])


async def attached(client: httpx.AsyncClient, path: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (await client.get(f"/api/v1{path}/integrations")).json()}


def row(page: Page, name: str) -> Locator:
    return page.locator("#notified .told", has_text=name)


async def test_a_first_escalation_is_set_up_in_a_minute_and_a_half_of_clicks(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    path = f"/servers/{await new_server(client)}"
    for name in ("Ann", "Bob"):
        await webhook(client, name)
    began = time.monotonic()
    await page.goto(f"{service.url}/servers")
    await page.get_by_role("main").get_by_role("link", name="my-server").first.click()
    told = page.locator("#notified")
    await expect(told).to_contain_text("Nobody is notified")
    await told.get_by_role("button", name="Attach Ann", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Ann will be notified.")
    await told.get_by_text("Not attached: 1").click()
    await told.get_by_label("Attach, to be notified").select_option("after 10 min")
    await told.get_by_role("button", name="Attach Bob", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Bob will be notified after 10 min.")
    await expect(told.locator("h3")).to_have_text(["At once", "After 10 min, unless acknowledged"])
    await expect(told.locator(".told .title")).to_have_text(["Ann", "Bob"])
    assert time.monotonic() - began < SECONDS
    assert {name: each["after"] for name, each in (await attached(client, path)).items()} == {"Ann": 0, "Bob": 600}
