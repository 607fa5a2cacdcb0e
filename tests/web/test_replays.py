"""Sending again from the delivery log in a real browser: filtered, confirmed, watched, stopped; also without script."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.promise_scene import scene
from tests.receivers import Answer, Receiver
from tests.replay_scene import accepted, down
from tests.service import Service


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "403" not in said]


async def test_what_was_missed_is_found_sent_again_watched_and_stopped(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    stage = await scene(client, {"hook": receiver.url()})
    receiver.then(*[Answer(after=0.3)] * 6)
    receiver.otherwise = Answer(after=3)  # so that it is not over before somebody has looked
    async with down(service, stage):
        await stage.open(60)
    log = f"{service.url}/integrations/{stage.integrations['hook']}/deliveries"
    await page.goto(log)
    assert not await page.get_by_role("link", name="Send these again").count()
    await page.get_by_label("Status").select_option("dead")
    await page.get_by_label("from").fill("2099-01-01T00:00")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("Nothing here")).to_be_visible()
    await page.get_by_label("from").fill("2024-01-01T00:00")
    await page.get_by_role("button", name="Show").click()
    assert await findings(page) == []
    await page.get_by_role("link", name="Send these again (60)").click()
    await expect(page.get_by_text("60 deliveries")).to_be_visible()
    await expect(page.get_by_text("60 × opened")).to_be_visible()
    assert await findings(page) == []
    await page.get_by_role("button", name="Send 60 again").click()
    await expect(page.get_by_text("running")).to_be_visible()
    await page.evaluate("window.sameLoad = true")
    await expect(page.locator("progress[value='0']")).to_have_count(0, timeout=15_000)
    assert await page.evaluate("window.sameLoad"), "it came without a reload"
    assert await findings(page) == []
    await page.goto(log)
    await page.get_by_role("link", name="Sending again:").click()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    assert 0 < len(accepted(receiver)) < 60


async def test_it_works_without_script_on_a_narrow_screen_and_readers_only_look(
    service: Service, browser: Browser, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    stage = await scene(client, {"hook": receiver.url()})
    async with down(service, stage):
        await stage.open(5)
    page = await signed_in(service, browser, java_script_enabled=False, viewport={"width": 360, "height": 740})
    await page.goto(f"{service.url}/integrations/{stage.integrations['hook']}/deliveries?status=dead")
    assert not await too_wide(page)
    await page.get_by_role("link", name="Send these again (5)").click()
    assert not await too_wide(page)
    await page.get_by_role("button", name="Send 5 again").click()
    await receiver.arrivals(5)
    await expect(page.get_by_role("heading", name="Sending again")).to_be_visible()
    assert not await too_wide(page)
    replay = page.url
    await demote(service)
    await page.goto(replay)
    assert not await page.get_by_role("button", name="Stop").count()
