"""A newcomer's first minutes, by clicks alone: from the first start's link to the notification of an outage."""

from __future__ import annotations

import time

import asyncpg
from playwright.async_api import Browser, expect

from tests.browser import Console
from tests.receivers import Receiver
from tests.service import Service
from tocsin import settings as configuration
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault

MINUTES = 2


async def test_from_the_first_start_to_a_notification_takes_two_minutes_of_clicks(
    own_service: Service, browser: Browser, receiver: Receiver
) -> None:
    settings = configuration.load(environ=own_service.environ)
    vault = Vault(settings.secret_keys)
    pool: asyncpg.Pool = await storage.pool(own_service.database, size=1, name="tests")
    async with pool.acquire() as tx, tx.transaction():
        await tx.execute("DELETE FROM projects")
        await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
        link = await operator.new_link(tx, vault, own_service.url)
    await pool.close()
    assert link
    page = await (await browser.new_context()).new_page()
    console = Console(page)
    began = time.monotonic()
    await page.goto(link)
    await page.focus("#email")
    for text in ("ann@example.com", "Ann", "correct horse", "correct horse"):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/integrations")
    await page.get_by_role("link", name="Add an integration").click()
    await page.get_by_role("link", name="Add webhook").click()
    await page.get_by_label("Address").fill(receiver.url("/hook"))
    await page.get_by_role("button", name="Create integration").click()
    await page.get_by_role("button", name="Attach to all, including future ones").click()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#test")).to_contain_text("delivered", timeout=15_000)
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Monitors").click()
    await page.get_by_role("main").get_by_role("link", name="Add a monitor").first.click()
    await page.get_by_label("What to monitor").fill("tcp://127.0.0.1:1")
    await page.get_by_label("Name", exact=True).fill("Shop")
    await page.get_by_text("Check settings").click()
    await page.get_by_label("Interval in seconds").fill("1")
    await page.get_by_label("Failed checks in a row").fill("1")
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.locator("#now .badge")).to_have_text("down", timeout=20_000)
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Incidents").click()
    await page.get_by_role("link", name="on Shop").first.click()
    await expect(page.get_by_text("opened: delivered after").first).to_be_visible(timeout=15_000)
    assert time.monotonic() - began < 60 * MINUTES
    assert not [said for said in console.said if "404" not in said]
