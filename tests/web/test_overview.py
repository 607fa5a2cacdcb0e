"""The first page in a real browser: empty, calm and in trouble; by keyboard, on a phone, in both lights, without JS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import SCHEMES, WIDTHS, Console, demote, findings, signed_in, too_wide
from tests.calls import alarm, attach_to_all, integration, new_monitor, new_server, new_webhook
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import until


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    yield await signed_in(service, browser)


async def is_for_everybody(page: Page) -> None:
    for width in WIDTHS:
        for scheme in SCHEMES:
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(color_scheme=scheme)
            assert not await findings(page), (width, scheme)
            assert not await too_wide(page), (width, scheme)


async def opened(client: httpx.AsyncClient, server: str, kind: str, severity: str = "critical") -> str:
    made = await client.post("/api/v1/incidents", json={"incident": {**alarm(server, kind), "severity": severity}})
    assert made.status_code == 201, made.text
    return str(made.json()["uuid"])


async def test_who_signs_in_lands_on_an_overview_that_says_what_to_do_first(service: Service, page: Page) -> None:
    await page.goto(service.url)
    assert page.url == f"{service.url}/overview"
    await expect(page.get_by_text("Nothing is watched yet")).to_be_visible()
    await expect(page.get_by_text("Nobody would be notified")).to_be_visible()
    navigation = page.get_by_role("navigation", name="Main").get_by_role("link")
    assert (await navigation.all_text_contents())[0] == "Overview"
    await is_for_everybody(page)
    await page.get_by_role("link", name="Add a server").click()
    assert page.url == f"{service.url}/servers/new"


async def test_the_overview_is_one_sentence_while_nothing_is_wrong(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_webhook(client, receiver.url())
    await new_server(client, "web-1")
    await new_server(client, "web-2")
    await new_monitor(client)
    await page.goto(f"{service.url}/overview")
    await expect(page.locator(".calm")).to_have_text(
        "Nothing is wrong. 2 servers and 1 network monitor are watched.", use_inner_text=True
    )
    for name in ("Silenced now", "On call", "Not delivered in 24 h"):
        await expect(page.get_by_role("heading", name=name)).to_have_count(0)
    await expect(page.get_by_role("heading", name="Integrations")).to_be_visible()
    await is_for_everybody(page)


async def test_in_trouble_the_overview_says_what_is_wrong_who_has_it_what_is_silent_and_what_was_not_delivered(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    console, server = Console(page), await new_server(client, "web-1")
    receiver.otherwise = Answer(404, body=b"no such hook")
    hook = await new_webhook(client, receiver.url("/gone"), server)
    on_call = await integration(
        client, "OnCallIntegration", timezone="Europe/Vienna", rotation="none", integrations=[hook]
    )
    ends = f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    silence = {"name": "Backups", "ends_at": ends, "resources": [await new_monitor(client)]}
    assert (await client.post("/api/v1/silences", json={"silence": silence})).status_code == 201
    await page.goto(f"{service.url}/overview")
    await page.evaluate("window.sameLoad = true")
    await opened(client, server, "load", "info")
    taken = await opened(client, server, "certificate")
    assert (await client.post(f"/api/v1/incidents/{taken}/acknowledge")).status_code == 200
    await opened(client, server, "ram", "warning")
    await opened(client, server, "disk_failure")
    rows = page.locator("#overview > .list > li")
    await expect(rows).to_have_count(4, timeout=15_000)
    titles = await rows.locator("a.title").all_text_contents()
    assert [each.partition(" ")[0] for each in titles] == ["disk_failure", "certificate", "ram", "load"]
    assert await rows.locator(".badge").all_text_contents() == ["Critical", "Critical", "Warning", "Info"]
    await expect(rows.nth(0)).to_contain_text("nobody has it")
    await expect(rows.nth(1)).to_contain_text("has it")
    assert await rows.nth(1).get_by_role("button").count() == 0
    await expect(page.locator("#overview > h2")).to_have_text("Wrong now: 2 critical, 1 warning, 1 info")
    await expect(page.locator("#undelivered")).to_contain_text("could not be delivered", timeout=20_000)
    assert await page.evaluate("window.sameLoad"), "all of it came without a reload"
    await expect(page.locator("#silent")).to_contain_text("Backups")
    await expect(page.locator("#on-call")).to_contain_text(receiver.url("/gone"))
    assert await page.locator(f"#on-call a[href='/integrations/{on_call}']").count() == 1
    await expect(page.locator("#integrations .badge").first).to_have_text("failing")
    await is_for_everybody(page)
    await rows.nth(0).get_by_role("button", name="Acknowledge disk_failure on web-1").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("You have it")
    assert page.url == f"{service.url}/overview"
    await page.get_by_role("link", name="Send these again").press("Enter")
    await expect(page.get_by_role("heading", name="Send again")).to_be_visible()
    await expect(page.locator("main")).not_to_contain_text("Nothing")
    await page.go_back()
    await page.locator("#undelivered a.title").click()
    await expect(page.get_by_role("link", name="opened: dead · disk_failure on web-1")).to_be_visible()
    assert console.said == []


async def test_what_was_sent_again_and_arrived_is_no_longer_missing(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    server = await new_server(client)
    hook = await new_webhook(client, receiver.url("/late"), server)
    receiver.otherwise = Answer(404)
    await opened(client, server, "disk_failure")

    async def log(status: str) -> list[str]:
        listed = (await client.get(f"/api/v1/integrations/{hook}/deliveries")).json()["data"]
        return [each["uuid"] for each in listed if each["status"] == status]

    async def dead() -> bool:
        return bool(await log("dead"))

    await until(dead, what="the delivery is dead")
    await page.goto(f"{service.url}/overview")
    await expect(page.locator("#undelivered")).to_contain_text("1 notification could not be delivered")
    receiver.otherwise = Answer(200)
    [lost] = await log("dead")
    assert (await client.post(f"/api/v1/deliveries/{lost}/redeliver")).status_code in (201, 202)
    await expect(page.locator("#undelivered")).to_have_count(0, timeout=15_000)


async def test_one_cause_comes_first_and_what_is_behind_it_is_called_unreachable(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    router, shop = await new_server(client, "core-router"), await new_server(client, "shop-1")
    changed = await client.patch(f"/api/v1/servers/{shop}", json={"server": {"depends_on": [router]}})
    assert changed.status_code == 200, changed.text
    await opened(client, router, "downtime", "warning")
    await opened(client, shop, "downtime")
    await page.goto(f"{service.url}/overview")
    rows = page.locator("#overview > .list > li")
    await expect(rows.nth(0)).to_contain_text("downtime on core-router")
    await expect(rows.nth(1)).to_contain_text("it is behind core-router, which is down")
    await expect(rows.nth(1).locator(".badge")).to_have_text("Unreachable")
    await expect(page.locator("#overview > h2")).to_have_text("Wrong now: 1 warning, 1 unreachable")
    await page.goto(f"{service.url}/incidents")
    await expect(page.locator("li", has_text="on shop-1").locator(".badge")).to_have_text("Unreachable")
    await page.get_by_role("link", name="downtime on shop-1").click()
    await expect(page.get_by_text("it is behind core-router, which is down")).to_be_visible()
    await page.get_by_role("link", name="Incidents").last.click()
    await page.get_by_role("link", name="downtime on core-router").click()
    await expect(page.get_by_text("Behind it, so that nobody is told of them: shop-1.")).to_be_visible()
    await page.goto(f"{service.url}/servers")
    await expect(page.locator("li", has_text="shop-1").locator(".badge")).to_contain_text("unreachable")


async def test_without_scripts_the_overview_works_and_for_readers_it_has_no_buttons(
    service: Service, browser: Browser, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    await attach_to_all(client, uuid)
    server = await new_server(client)
    incident = await opened(client, server, "disk_failure")
    await opened(client, server, "load", "warning")
    plain = await signed_in(service, browser, java_script_enabled=False)
    await plain.goto(f"{service.url}/overview")
    await plain.get_by_role("button", name="Acknowledge disk_failure").click()
    await expect(plain.get_by_role("status")).to_contain_text("You have it")
    record = (await client.get(f"/api/v1/incidents/{incident}")).json()
    assert record["acknowledged_by"] == "ann@example.com"
    await demote(service)
    await plain.goto(f"{service.url}/overview")
    await expect(plain.get_by_text("ann@example.com has it")).to_be_visible()
    assert await plain.locator("main button").count() == 0
