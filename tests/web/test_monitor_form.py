"""The form of a monitor: it shows what the chosen type knows, keeps secrets, and tries a check without saving."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import signed_in
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.web.test_network_monitors import PATH, UP, make, monitor
from tocsin.actions import monitor_tries
from tocsin.checks.base import MASK


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    """Without JavaScript: all of this works without."""
    yield await signed_in(service, browser, java_script_enabled=False)


async def test_the_form_shows_only_what_the_chosen_type_knows(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}/network_monitors/new")
    for summary in ("Check settings", "Request and connection"):
        await page.get_by_text(summary).click()
    await expect(page.get_by_label("JSON path")).to_be_visible()
    await expect(page.get_by_label("Bearer token")).to_be_visible()
    await expect(page.get_by_label("Text that must come back")).to_be_hidden()
    await page.get_by_label("What kind of check").select_option("tcp")
    await expect(page.get_by_label("JSON path")).to_be_hidden()
    await expect(page.get_by_label("Bearer token")).to_be_hidden()
    await expect(page.get_by_label("Text that must come back")).to_be_visible()
    await expect(page.get_by_label("Addresses")).to_be_visible()


async def test_a_check_is_tried_and_its_whole_answer_shown_while_nothing_is_saved(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(200, body=b'{"status": "<b>fine</b>"}')
    await page.goto(f"{service.url}/network_monitors/new")
    await page.get_by_label("What to monitor").fill(receiver.url("/health"))
    await page.get_by_text("Check settings").click()
    await page.get_by_label("JSON path").fill("$.status")
    await page.get_by_role("button", name="Try it now").click()
    tried = page.locator("#tried")
    await expect(tried.get_by_role("heading")).to_have_text("Tried once: good")
    await expect(tried).to_contain_text('{"status": "<b>fine</b>"}')
    await expect(tried).to_contain_text(f"GET {receiver.url('/health')}")
    await page.get_by_text("Check settings").click()
    assert await page.get_by_label("JSON path").input_value() == "$.status"
    await page.get_by_label("What it must be").fill("up")
    await page.get_by_role("button", name="Try it now").click()
    await expect(tried.get_by_role("heading")).to_have_text("Tried once: failed")
    await expect(tried).to_contain_text('$.status is "<b>fine</b>", expected "up"')
    await page.get_by_text("Check settings").click()
    await page.get_by_label("JSON path").fill("status")
    await page.get_by_role("button", name="Try it now").click()
    await expect(page.locator("#json_path-error")).to_contain_text("must be a JSON path (RFC 9535) such as $.status")
    assert (await client.get(PATH)).json()["meta"]["total_count"] == 0


async def test_secrets_are_masked_in_the_form_kept_when_it_is_saved_and_used_when_it_is_tried(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    secret = {"headers": {"X-Api-Key": "s3ntinel-h3ader"}, "token": "s3ntinel-t0ken"}
    uuid = await make(client, url=receiver.url("/"), paused=True, follow_redirects=False, **secret)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    assert "s3ntinel" not in await page.content()
    await page.get_by_text("Request and connection").click()
    assert await page.get_by_label("Headers").input_value() == f"X-Api-Key: {MASK}"
    await page.get_by_label("Headers").fill(f"X-Api-Key: {MASK}\nX-More: more")
    await page.get_by_role("button", name="Try it now").click()
    await expect(page.locator("#tried").get_by_role("heading")).to_have_text("Tried once: good")
    await expect(page.locator("#tried")).to_contain_text(f"X-Api-Key: {MASK}")
    assert "s3ntinel" not in await page.content()
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer s3ntinel-t0ken"
    assert (request.headers["x-api-key"], request.headers["x-more"]) == ("s3ntinel-h3ader", "more")
    assert (await monitor(client, uuid))["headers"] == {"X-Api-Key": MASK}
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    saved = await monitor(client, uuid)
    assert saved["headers"] == {"X-Api-Key": MASK, "X-More": MASK}
    assert (saved["token"], saved["follow_redirects"], saved["paused"]) == (MASK, False, True)


async def test_so_many_checks_may_be_tried_at_once_and_readers_may_try_none(
    service: Service, page: Page, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    await page.goto(f"{service.url}/network_monitors/new")
    token = await page.locator("main input[name=csrf]").first.input_value()
    form = {"csrf": token, "url": receiver.url("/"), "check_type": "http"}
    for _ in range(monitor_tries.LIMIT.tries):
        answer = await page.request.post(f"{service.url}/network_monitors/try", form=form)
        assert answer.status == 200
    refused = await page.request.post(f"{service.url}/network_monitors/try", form=form)
    assert refused.status == 429
    assert "Too many checks were tried" in await refused.text()


async def test_a_port_is_monitored_by_its_name_and_number_alone(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/network_monitors/new")
    await page.get_by_label("What kind of check").select_option("tcp")
    await page.get_by_label("What to monitor").fill("127.0.0.1:9")
    await page.get_by_text("Check settings").click()
    await page.get_by_label("Text that must come back").fill("220")
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.get_by_role("status")).to_contain_text("is now monitored.")
    (made,) = (await client.get(PATH)).json()["data"]
    assert (made["url"], made["check_type"]) == ("tcp://127.0.0.1:9", "tcp")
    assert (await monitor(client, made["uuid"]))["expect"] == "220"
