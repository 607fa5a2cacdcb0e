"""The pages of sources in a real browser: added by a form, set up by what is pasted, tried, seen to work, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests import sent_alerts
from tests.api.test_sources import incidents, made
from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.service import Service
from tocsin.domain.sources.base import types

PATIENCE = 20_000
"""Milliseconds."""


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_a_source_is_added_set_up_and_seen_to_work(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/sources")
    await page.get_by_role("main").get_by_role("link", name="Add a source").click()
    await page.get_by_label("Prometheus or Alertmanager").check()
    await page.get_by_label("Name").fill("Our cluster")
    await page.get_by_role("button", name="Create source").click()
    await expect(page.get_by_role("heading", name="Our cluster")).to_be_visible()
    await expect(page.locator("#now .badge")).to_have_text("nothing yet")
    pasted = await page.locator("#snippet-2").inner_text()
    url = next(line.partition("url: ")[2].strip() for line in pasted.splitlines() if "url: " in line)
    key = url.rpartition("/")[2]
    assert f"path_prefix: /in/{key}" in await page.locator("#snippet-1").inner_text()
    await page.evaluate("window.sameLoad = true")
    async with httpx.AsyncClient(trust_env=False) as other:
        body = sent_alerts.alertmanager(sent_alerts.told(instance="db1"))
        assert (await other.post(url, json=body)).status_code == 200
        await other.post(url, json={"version": "3"})
    await expect(page.locator("#now .badge")).to_have_text("1 alert", timeout=PATIENCE)
    await expect(page.locator("#bodies")).to_contain_text("1 opened", timeout=PATIENCE)
    await expect(page.locator("#incidents")).to_contain_text("It is full", timeout=PATIENCE)
    assert await page.evaluate("window.sameLoad")
    await page.reload()
    await expect(page.locator("#bodies")).to_contain_text('Not understood: version must be "4"')
    await page.locator("#incidents").get_by_role("link", name="It is full").click()
    await page.get_by_text("What its reporter says besides").click()
    await expect(page.locator("#details")).to_contain_text("labels.instance")
    link = page.locator("#details").get_by_role("link")
    assert await link.get_attribute("href") == "http://prometheus.example.com/graph"
    assert not await findings(page)


async def test_a_mapping_is_tried_on_a_pasted_body_and_then_saved(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    source = await made(client, "generic", name="Backups")
    await page.goto(f"{service.url}/sources/{source['uuid']}")
    await page.get_by_label("Mapping").fill("dedup_key: $.job.id\nstatus: $.state\ntitle: $.job.[")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#map-error")).to_contain_text("title must be a JSON path")
    await page.get_by_label("Mapping").fill("dedup_key: $.job.id\nstatus: $.state\ntitle: $.job.name")
    await page.get_by_text("Try it on a body").click()
    await page.get_by_label("A body that is sent").fill('{"job": {"name": "nightly"}, "state": "failed"}')
    await page.get_by_role("button", name="Try it", exact=True).click()
    await expect(page.locator("#tried")).to_contain_text("It would be refused: dedup_key is missing")
    body = '{"job": {"id": 7, "name": "nightly"}, "state": "failed"}'
    await page.get_by_label("A body that is sent").fill(body)
    await page.get_by_role("button", name="Try it", exact=True).click()
    await expect(page.locator("#tried")).to_contain_text("nightly is firing, critical; its key is 7.")
    assert not await findings(page)
    assert not await incidents(client)
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    assert (await client.post(source["url"], content=body)).json()["opened"] == 1


async def test_a_source_gets_a_new_address_and_is_deleted(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    source = await made(client, "generic", name="Backups")
    await client.post(source["url"], json={"dedup_key": "a", "title": "late"})
    await page.goto(f"{service.url}/sources/{source['uuid']}")
    await page.get_by_role("button", name="New address").click()
    await page.get_by_role("dialog").get_by_role("button", name="New address").click()
    await expect(page.get_by_text("It has a new address")).to_be_visible()
    assert source["url"] not in await page.content()
    assert (await client.post(source["url"], json={"dedup_key": "a", "title": "late"})).status_code in (200, 404)
    await page.get_by_role("button", name="Delete source").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Backups deleted.")).to_be_visible()
    assert not await incidents(client)


async def test_readers_see_neither_keys_nor_buttons(service: Service, page: Page, client: httpx.AsyncClient) -> None:
    sources = [await made(client, kind) for kind in types()]
    await demote(service)
    for source in sources:
        await page.goto(f"{service.url}/sources/{source['uuid']}")
        await expect(page.get_by_text("Its key is masked")).to_be_visible()
        assert source["url"].rpartition("/")[2] not in await page.content()
        await expect(page.get_by_role("button", name="Save settings")).to_have_count(0)
        for path in ("", "/try", "/rotate", "/delete"):
            answer = await page.request.post(f"{service.url}/sources/{source['uuid']}{path}", form={"csrf": "x"})
            assert answer.status in (400, 403)


async def test_every_type_of_source_says_what_to_paste_at_every_width(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    for kind in types().values():
        source = await made(client, kind.type)
        await page.set_viewport_size({"width": 360, "height": 800})
        await page.goto(f"{service.url}/sources/{source['uuid']}")
        for number, _ in enumerate(kind.snippets, 1):
            said = await page.locator(f"#snippet-{number}").inner_text()
            assert source["url"].rpartition("/")[2] in said
            assert "{" not in said.replace("{\n", "").replace("'{", "").replace(": {", "")
        assert await findings(page) == [], kind.type
        assert not await too_wide(page), kind.type
    for path in ("/sources", "/sources/new"):
        await page.goto(f"{service.url}{path}")
        assert await findings(page) == []
        assert not await too_wide(page)
