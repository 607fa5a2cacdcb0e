"""The pages of on-call schedules in a real browser: made, taken over, subscribed to; without scripts too."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests import calendars
from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.integration_calls import EMAIL, made
from tests.service import Service


async def make_schedule(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}/integrations/new?kind=Integrations::OnCallIntegration")
    await page.get_by_label("Place 1").select_option(label="Ann")
    await page.get_by_label("Place 2").select_option(label="Ben")
    await page.get_by_label("Hand-over at").fill("MO 09:00")
    await page.get_by_label("Time zone").fill("Europe/Vienna")
    await page.get_by_label("Name", exact=True).fill("Operations")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("heading", name="Operations")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_schedule_is_made_and_somebody_takes_over_with_and_without_scripts(
    service: Service, browser: Browser, client: httpx.AsyncClient, scripts: bool
) -> None:
    for name in ("Ann", "Ben", "Dora"):
        await made(client, EMAIL, name=name)
    page = await signed_in(service, browser, java_script_enabled=scripts)
    await make_schedule(service, page)
    await expect(page.locator("#duty")).to_contain_text("Ann is on duty until Mon")
    await expect(page.locator("#duty li").nth(1)).to_contain_text("Ben")
    await page.get_by_label("Takes over").select_option(label="Dora")
    await page.get_by_role("button", name="Take over").click()
    await expect(page.get_by_text("Dora takes over.")).to_be_visible()
    await expect(page.locator("#duty li", has=page.locator(".badge"))).to_contain_text("Dora")
    await page.get_by_label("Until").fill("2020-01-01T09:00")
    await page.get_by_role("button", name="Take over").click()
    await expect(page.get_by_text("until must be after from")).to_be_visible()
    if scripts:
        await page.get_by_role("button", name="Take back that Dora").click()
        await expect(page.get_by_text("Taken back")).to_be_visible()
        await expect(page.locator("#duty")).to_contain_text("Nobody: everybody takes their own turn.")
    await page.goto(f"{service.url}/integrations")
    await expect(page.get_by_text("On duty: Ann")).to_be_visible()


async def test_the_order_is_changed_and_what_is_wrong_is_said_beside_it(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    for name in ("Ann", "Ben", "Carl"):
        await made(client, EMAIL, name=name)
    page = await signed_in(service, browser)
    await make_schedule(service, page)
    await page.get_by_label("Place 3").select_option(label="Ann")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#integrations-error")).to_contain_text("twice")
    await page.get_by_label("Place 1").select_option(label="Carl")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    await expect(page.locator("#duty")).to_contain_text("Ann is on duty until Mon")
    await expect(page.locator("#duty li").nth(1)).to_contain_text("Carl")
    await page.get_by_label("Hand over", exact=True).select_option("none")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Carl is on duty.")).to_be_visible()


async def test_the_calendar_s_address_is_shown_and_changed(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    for name in ("Ann", "Ben"):
        await made(client, EMAIL, name=name)
    page = await signed_in(service, browser)
    await make_schedule(service, page)
    old = await page.locator("#feed").inner_text()
    assert calendars.read((await client.get(old, headers={"Authorization": ""})).content)[0]["NAME"] == "Operations"
    await page.get_by_role("button", name="Change the address").click()
    await page.get_by_role("dialog").get_by_role("button", name="Change the address").click()
    await expect(page.get_by_text("The calendar has a new address")).to_be_visible()
    assert await page.locator("#feed").inner_text() != old
    assert (await client.get(old)).status_code == 404
    await demote(service)
    await page.reload()
    for words in ("Ann, Ben", "Every week", "Hand-over at"):
        await expect(page.locator("#settings")).to_contain_text(words)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_the_pages_are_accessible_and_never_wider_than_the_screen(
    service: Service, browser: Browser, client: httpx.AsyncClient, width: int, scheme: str
) -> None:
    for name in ("Ann with a very long name that goes on and on " * 4, "Ann", "Ben"):
        await made(client, EMAIL, name=name.strip())
    page = await signed_in(service, browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    console = Console(page)
    await page.goto(f"{service.url}/integrations/new?kind=Integrations::OnCallIntegration")
    assert not await findings(page)
    assert not await too_wide(page)
    await make_schedule(service, page)
    await page.get_by_role("button", name="Take over").click()
    await expect(page.get_by_text("takes over.")).to_be_visible()
    assert not await findings(page)
    assert not await too_wide(page)
    await demote(service)
    await page.reload()
    await expect(page.get_by_role("button", name="Take over")).to_have_count(0)
    assert not await findings(page)
    assert not console.said
