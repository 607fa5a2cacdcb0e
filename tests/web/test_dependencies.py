"""What depends on what, in a real browser: chosen by a form, seen on both pages, unreachable in words."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, findings, signed_in, too_wide
from tests.service import Service
from tests.web.test_network_monitors import PATH, make


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_parents_are_chosen_seen_and_removed(service: Service, page: Page, client: httpx.AsyncClient) -> None:
    uuids = {
        name: await make(client, url="tcp://127.0.0.1:9", name=name, interval=3600)
        for name in ("core-router", "uplink-2", "shop")
    }
    await page.goto(f"{service.url}/network_monitors/{uuids['shop']}")
    card = page.locator("#depends-on")
    await card.get_by_label("Depends on another").select_option(label="core-router (network monitor)")
    await card.get_by_role("button", name="Add").press("Enter")
    await expect(card.get_by_role("link", name="core-router")).to_be_visible()
    await card.get_by_label("Depends on another").select_option(label="core-router (network monitor)")
    await card.get_by_label("Only while this is down too").select_option(label="uplink-2 (network monitor)")
    await card.get_by_role("button", name="Add").click()
    await expect(card).to_contain_text("only while all of them are down")
    assert (await client.get(f"{PATH}/{uuids['shop']}")).json()["depends_on"] == [
        uuids["core-router"], [uuids["core-router"], uuids["uplink-2"]],
    ]  # fmt: skip
    await page.set_viewport_size({"width": 360, "height": 800})
    assert not await too_wide(page)
    assert await findings(page) == []
    badge = page.locator("#now .badge")
    await expect(badge).to_have_text("unreachable: core-router and uplink-2 are down", timeout=15_000)
    await page.goto(f"{service.url}/network_monitors")
    await expect(page.locator("#monitors")).to_contain_text("unreachable: core-router and uplink-2 are down")

    await page.goto(f"{service.url}/network_monitors/{uuids['core-router']}")
    await expect(page.locator("#depends-on")).to_contain_text("Behind it")
    await expect(page.locator("#depends-on").get_by_role("link", name="shop")).to_be_visible()
    await page.locator("#depends-on").get_by_label("Depends on another").select_option(label="shop (network monitor)")
    await page.locator("#depends-on").get_by_role("button", name="Add").click()
    await expect(page.get_by_role("main")).to_contain_text(
        "would make a circle: core-router → shop → core-router"
    )
    await page.goto(f"{service.url}/network_monitors/{uuids['shop']}")
    await card.get_by_role("button", name="Remove core-router", exact=True).click()
    await expect(card.get_by_role("button", name="Remove core-router", exact=True)).to_have_count(0)
    assert len((await client.get(f"{PATH}/{uuids['shop']}")).json()["depends_on"]) == 1
