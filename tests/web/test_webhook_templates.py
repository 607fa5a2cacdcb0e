"""A webhook as its receiver wants it, made in a real browser: ready-made, edited, previewed, kept secret."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, findings, signed_in, too_wide
from tests.calls import integration
from tests.receivers import Receiver
from tests.service import Service
from tocsin.web import ready_made

NEW = "/integrations/new?kind=Integrations::WebhookIntegration"


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_a_ready_made_webhook_is_chosen_filled_in_previewed_while_it_is_edited_and_sent(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await page.goto(f"{service.url}/integrations/new")
    await page.get_by_role("link", name="Mattermost").click()
    await expect(page.get_by_text("Integrations, Incoming Webhooks, Add Incoming Webhook")).to_be_visible()
    await expect(page.locator("#preview-opened")).to_contain_text("Incident: timeout on My Website")
    assert await page.get_by_label("Name", exact=True).input_value() == "Mattermost"
    await page.get_by_label("Address").fill(receiver.url("/hooks/one"))
    await page.get_by_text("The request: method, headers and body").click()
    await page.get_by_label("JSON body").fill('{"text": "{{ event }}: {{ messag }}"}')
    await expect(page.locator("#preview .error")).to_contain_text("text: has a name that is not known, 'messag'")
    await page.get_by_label("JSON body").fill('{"text": "It {{ event }}: {{ message }}", "urgent": "{{ true }}"}')
    await expect(page.locator("#preview-opened")).to_contain_text('"text": "It opened: Request timeout')
    await expect(page.locator("#preview-opened")).to_contain_text('"urgent": true')
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("heading", name="Mattermost")).to_be_visible()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#test")).to_contain_text("delivered", timeout=15_000)
    [request] = receiver.to("/hooks/one")
    assert request.json["text"].startswith("It test: This is a test notification")
    await page.get_by_role("link", name="The delivery with every attempt").click()
    await expect(page.locator("#sent")).to_contain_text('"text": "It test: This is a test notification')


async def test_without_scripts_a_button_previews_and_a_mistake_is_named_where_it_is(
    service: Service, browser: Browser
) -> None:
    page = await signed_in(service, browser, java_script_enabled=False)
    await page.goto(service.url + NEW)
    await page.get_by_text("The request: method, headers and body").click()
    await page.get_by_label("JSON body").fill('{"a": [{"text": "{{ resource_name + 1 }}"}]}')
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#body-error")).to_contain_text("a[0].text: has arithmetic")
    await page.get_by_label("JSON body").fill('{"a": "not closed}')
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#body-error")).to_contain_text("is no JSON")
    await page.get_by_label("JSON body").fill('{"a": [{"text": "{{ resource_name }}"}]}')
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#preview-opened")).to_contain_text('"text": "My Website"')
    assert await page.get_by_label("JSON body").input_value() == '{"a": [{"text": "{{ resource_name }}"}]}'
    await page.context.close()


async def test_headers_and_secrets_stay_masked_where_they_are_and_go_when_they_are_emptied(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    uuid = await integration(
        client, "WebhookIntegration", webhook_url=receiver.url("/a"), body={"key": "{{ secrets.key }}"},
        headers={"Authorization": "Bearer s3cret-one"}, secrets={"key": "s3cret-two"},
    )  # fmt: skip
    await page.goto(f"{service.url}/integrations/{uuid}")
    assert await page.get_by_label("Headers").input_value() == "Authorization: ********"
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#preview-opened")).to_contain_text('"key": "********"')
    await expect(page.locator("#preview-opened")).to_contain_text("Authorization: ********")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    await page.get_by_role("button", name="Send a test").click()
    [request] = await receiver.arrivals(path="/a")
    assert (request.headers["authorization"], request.json) == ("Bearer s3cret-one", {"key": "s3cret-two"})
    await page.get_by_label("Address").fill("https://elsewhere.example.com/")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#headers-error")).to_contain_text("must be given again in clear")
    assert not re.search("s3cret-(one|two)", await page.content())
    await page.get_by_label("Address").fill(receiver.url("/a"))
    await page.get_by_label("Headers").fill("")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    changed = (await client.get(f"/api/v1/integrations/{uuid}")).json()["settings"]
    assert changed == {
        "webhook_url": receiver.url("/a"), "secrets": {"key": "********"}, "body": {"key": "{{ secrets.key }}"},
    }  # fmt: skip


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_every_ready_made_page_is_for_everybody(service: Service, page: Page, width: int, scheme: str) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in ("/integrations/new", NEW, *(f"{NEW}&ready={key}" for key in ready_made.all_())):
        await page.goto(service.url + path)
        assert not await findings(page), path
        assert not await too_wide(page), path
