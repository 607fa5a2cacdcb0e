"""The pages of Apprise in a real browser: a service found, filled in, tested and changed; an address pasted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import WIDTHS, Console, demote, findings, signed_in, too_wide
from tests.receivers import Answer, Receiver
from tests.service import Service

FIRST = 60_000
"""Milliseconds for a page that may have to start Apprise first, on a machine that is busy."""


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    page.set_default_timeout(FIRST)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_a_service_is_found_filled_in_tested_and_changed(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(200, body=b'{"id": 1}')
    await page.goto(f"{service.url}/integrations/new")
    await page.get_by_role("link", name="Add Apprise").click()
    await page.get_by_label("Find a service by name").fill("gotify")
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name="Gotify without TLS").click()
    await page.get_by_label("Hostname").fill("127.0.0.1")
    await page.get_by_label("Port").fill(str(receiver.port))
    await page.get_by_label("Token").fill("bad\u200etoken")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.locator("#field-token-error")).to_contain_text("control characters")
    assert await page.get_by_label("Hostname").input_value() == "127.0.0.1", "what was typed is still there"
    assert await page.get_by_label("Token").input_value() == "", "but for what is secret"
    await page.get_by_label("Token").fill("s3cret-t0ken")
    await page.get_by_label("Name", exact=True).fill("Phones")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("heading", name="Phones")).to_be_visible()
    assert "s3cret" not in await page.content()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#test")).to_contain_text("delivered", timeout=FIRST)
    await page.get_by_role("link", name="Change settings").click()
    await page.get_by_text("Options").click()
    await page.get_by_label("Priority").select_option("8")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#settings")).to_contain_text("priority 8")
    await page.get_by_role("button", name="Send a test").click()
    await receiver.arrivals(2)
    assert [request.headers["x-gotify-key"] for request in receiver.requests] == ["s3cret-t0ken"] * 2
    assert receiver.requests[-1].json["priority"] == 8
    assert not await findings(page)


async def test_a_pasted_address_is_enough(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}/integrations/apprise")
    await page.get_by_label("Address").fill("https://discord.com/api/webhooks/123456/t0ken?template=x")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.locator("#url-error")).to_contain_text("'template', which is not offered")
    await page.get_by_label("Address").fill("https://discord.com/api/webhooks/123456/t0ken-t0ken")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("heading", name="Apprise discord")).to_be_visible()
    await expect(page.locator("#settings")).to_contain_text("webhook_token ********")


async def test_the_pages_are_for_everybody(service: Service, page: Page) -> None:
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        for path in ("apprise", "apprise?find=no-such-thing", "apprise/discord", "apprise/ntfys", "apprise/slack"):
            await page.goto(f"{service.url}/integrations/{path}")
            assert not await findings(page), path
            assert not await too_wide(page), path
    await demote(service)
    await page.goto(f"{service.url}/integrations/apprise/discord")
    await expect(page.get_by_role("button", name="Create integration")).to_have_count(0)
