"""Fire drills in a real browser: begun from a resource's page, watched live, acknowledged, ended; and flood control."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.calls import integration, new_server, new_webhook
from tests.receivers import Receiver
from tests.service import Service

PATIENCE = 20_000
"""Milliseconds."""


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_a_drill_shows_live_who_was_reached_after_how_long_and_who_acknowledged_it(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    server = await new_server(client)
    await new_webhook(client, receiver.url("/first"), server)
    second = await new_webhook(client, receiver.url("/second"))
    later = {"integration_id": second, "after": 3600}
    assert (await client.post(f"/api/v1/servers/{server}/integrations", json=later)).status_code == 201
    await page.goto(f"{service.url}/servers/{server}")
    await page.get_by_role("button", name="Begin a fire drill").click()
    await expect(page.get_by_role("dialog")).to_contain_text("gets real messages, marked as a drill")
    await page.get_by_role("dialog").get_by_role("button", name="Begin").click()
    await expect(page.get_by_role("heading", name="Fire drill")).to_be_visible()
    rows = page.locator("#reached > li")
    await expect(rows.nth(0)).to_contain_text("reached after", timeout=PATIENCE)
    await expect(page.get_by_role("heading", name="Reached: 1 of 2")).to_be_visible()
    await expect(rows.nth(1)).to_contain_text("not yet")
    await expect(rows.nth(1)).to_contain_text("its turn is at")
    assert "Z," not in await rows.nth(1).inner_text(), "times are the reader's"
    await page.set_viewport_size({"width": 360, "height": 800})
    assert await findings(page) == []
    assert not await too_wide(page)
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.locator("#acknowledged")).to_contain_text("ann@example.com")
    await expect(rows.nth(1)).to_contain_text("not yet")
    assert "unless acknowledged" not in await rows.nth(1).inner_text(), "everybody is asked"
    address = page.url
    await page.goto(f"{service.url}/overview")
    await expect(page.get_by_role("heading", name="Nothing is wrong; a fire drill is under way")).to_be_visible()
    await page.goto(f"{service.url}/servers/{server}")
    await page.locator("#fire-drill").get_by_role("link", name="Under way since").click()
    assert page.url == address
    await page.get_by_role("button", name="End the drill").click()
    await expect(page.locator(".badge")).to_have_text("over")
    await expect(rows.nth(1)).to_contain_text("resolved before its turn")
    await expect(rows.nth(1)).to_contain_text("not told")
    drill = (await client.get(f"/api/v1/drills/{address.rpartition('/')[2]}")).json()
    assert drill["incident"]["closed_at"]
    await demote(service)
    await page.goto(address)
    assert await page.locator("main form").count() == 0


async def test_flood_control_is_changed_on_the_page_of_what_people_read(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    hook = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    await page.goto(f"{service.url}/integrations/{hook}")
    assert await page.locator("#flood").count() == 0
    uuid = await integration(client, "EmailIntegration", email="duty@example.com")
    await page.goto(f"{service.url}/integrations/{uuid}")
    assert await page.get_by_label("Incidents one by one").input_value() == "10"
    await page.get_by_label("Incidents one by one").fill("0")
    await page.get_by_label("Minutes").fill("2.5")
    await page.locator("#flood").get_by_role("button", name="Save").click()
    await expect(page.locator("#flood-error")).to_have_text("must be a whole number from 1 to 1000")
    assert await page.get_by_label("Minutes").input_value() == "2.5"
    await page.get_by_label("Incidents one by one").fill("3")
    await page.locator("#flood").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    shown = (await client.get(f"/api/v1/integrations/{uuid}")).json()
    assert shown["flood"] == {"incidents": 3, "seconds": 150}
    await page.get_by_label("Sum up what is too much").uncheck()
    await page.locator("#flood").get_by_role("button", name="Save").click()
    await expect(page.get_by_label("Sum up what is too much")).not_to_be_checked()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    assert (await client.get(f"/api/v1/integrations/{uuid}")).json()["flood"] is None
    await page.set_viewport_size({"width": 360, "height": 800})
    assert await findings(page) == []
    assert not await too_wide(page)
