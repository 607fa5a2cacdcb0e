"""The page of a delivery that was first tried late says what it waited for."""

from __future__ import annotations

import asyncpg
from playwright.async_api import Browser, expect

from tests.browser import Console, findings, signed_in
from tests.delivery_record import Record
from tests.service import Service
from tocsin.domain import ids
from tocsin.storage.postgres import database


async def test_the_page_of_a_late_delivery_says_what_it_waited_for(service: Service, browser: Browser) -> None:
    pool: asyncpg.Pool = await database.pool(service.database, size=1, name="tests")
    try:
        record = Record(pool, service.project.id)
        kind = "Integrations::WebhookIntegration"
        late = await record.finished(41, ago=100, kind=kind)
        held = await record.finished(1, ago=7200, held=7000, kind=kind)
    finally:
        await pool.close()
    page = await signed_in(service, browser)
    console = Console(page)
    await page.goto(f"{service.url}/deliveries/{ids.public(ids.DELIVERY, late)}")
    await expect(page.locator("#late")).to_contain_text("Waited 41 s for ")
    assert not await findings(page)
    await page.goto(f"{service.url}/deliveries/{ids.public(ids.DELIVERY, held)}")
    await expect(page.get_by_text("held until its turn came")).to_be_visible()
    assert not await page.locator("#late").count()
    assert console.said == []
