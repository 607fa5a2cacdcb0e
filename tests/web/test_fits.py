"""What is long fits a phone, what is much is folded, and nothing touches its neighbour: measured in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect

from tests.browser import signed_in, too_wide
from tests.calls import alarm, attach_to_all, integration, new_server
from tests.integrations.test_email import OPENED, part, written
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import until


@pytest_asyncio.fixture
async def phone(service: Service, browser: Browser) -> AsyncIterator[Page]:
    yield await signed_in(service, browser, viewport={"width": 360, "height": 780})


MEASURE = "selectors => selectors.map(each => document.querySelector(each).getBoundingClientRect().toJSON())"
"""All in one step: live parts of a page are replaced at any time, and an element found before may be gone by then."""


async def height(page: Page, selector: str) -> float:
    [box] = await page.evaluate(MEASURE, [selector])
    return float(box["height"])


async def gap(page: Page, above: str, below: str) -> float:
    """Pixels between the end of the one and the start of the other."""
    upper, lower = await page.evaluate(MEASURE, [above, below])
    return float(lower["top"] - upper["bottom"])


async def test_long_types_and_messages_stay_within_a_phone_and_within_three_lines(
    service: Service, phone: Page, client: httpx.AsyncClient
) -> None:
    server = await new_server(client)
    for kind, message in (("z" * 64, "lorem ipsum " * 160), ("y" * 64, "x" * 2_000)):
        made = await client.post("/api/v1/incidents", json={"incident": alarm(server, kind, message)})
        assert made.status_code == 201
    for path in ("/servers", f"/servers/{server}", "/incidents"):
        await phone.goto(f"{service.url}{path}")
        assert not await too_wide(phone), path
    assert await phone.locator(".clamp").count() == 2
    assert await height(phone, ".clamp") < 4 * 21
    await phone.goto(f"{service.url}/incidents/{made.json()['uuid']}")
    assert not await too_wide(phone)
    assert await gap(phone, "#hours", "label[for=until]") >= 8
    assert await gap(phone, "#until", "form:has(#until) button") >= 8


async def test_many_places_are_folded_and_a_failing_integration_s_notice_stands_apart(
    service: Service, phone: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url("/hook"))
    await attach_to_all(client, uuid)
    servers = [await new_server(client, f"web-{number}") for number in range(10)]
    page = f"{service.url}/integrations/{uuid}"
    await phone.goto(page)
    await expect(phone.get_by_role("button", name="Detach web-3")).to_be_visible()
    servers.append(await new_server(client, "web-10"))
    await phone.goto(page)
    await expect(phone.get_by_role("button", name="Detach web-3")).to_be_hidden()
    await phone.get_by_text("11 servers and monitors").click()
    await expect(phone.get_by_role("button", name="Detach web-3")).to_be_visible()
    receiver.otherwise = Answer(404)
    await client.post("/api/v1/incidents", json={"incident": alarm(servers[0])})

    async def fails() -> bool:
        await phone.goto(page)
        return bool(await phone.locator("#now > .flash").count())

    await until(fails, what="the notice of its failure")
    assert await gap(phone, "#now > .flash", "#test") >= 8


async def test_the_ways_between_settings_and_from_the_form_to_sign_in_are_whole_on_a_phone(
    service: Service, browser: Browser, phone: Page
) -> None:
    await phone.goto(f"{service.url}/settings/members")
    tabs = phone.locator("nav[aria-label=Settings] ul")
    assert await tabs.evaluate("each => each.scrollWidth <= each.clientWidth")
    stranger = await (await browser.new_context(viewport={"width": 360, "height": 780})).new_page()
    for path in ("/sign-in", "/forgot-password"):
        await stranger.goto(f"{service.url}{path}")
        assert await gap(stranger, "form button", "form + p a") >= 8, path


async def test_a_long_link_stays_within_the_card_of_a_mail(phone: Page) -> None:
    mail = written(replace(OPENED, resource_url=f"https://tocsin.example.com/{'x' * 200}"))
    await phone.set_content(part(mail, "html"))
    assert not await too_wide(phone)


async def test_the_description_of_the_api_shows_code_as_code(service: Service, phone: Page) -> None:
    await phone.goto(f"{service.url}/api/docs")
    await phone.locator("#calls > p code", has_text="Authorization: Bearer TOKEN").wait_for()
    await phone.evaluate("for (const each of document.querySelectorAll('#calls > section > details')) each.open = true")
    await phone.locator("#calls details details").first.wait_for(state="attached")
    assert "`" not in (await phone.locator("#calls").text_content() or "")
