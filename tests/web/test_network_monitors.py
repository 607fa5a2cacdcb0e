"""The pages of network monitors in a real browser: created by a form, up live, paused, changed, attached, deleted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.web.test_servers import webhook

PATH = "/api/v1/network_monitors"
UP, DOWN = Answer(200, body=b"all is well"), Answer(500)


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "422" not in said]


async def make(client: httpx.AsyncClient, **given: Any) -> str:
    answer = await client.post(PATH, json={"network_monitor": {"interval": 1, "confirmations": 1, **given}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def monitor(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    return dict((await client.get(f"{PATH}/{uuid}")).json())


async def test_a_monitor_is_made_by_the_form_and_seen_up_and_down_live(
    service: Service, page: Page, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    await page.goto(f"{service.url}/network_monitors")
    await page.get_by_role("main").get_by_role("link", name="Add a monitor").click()
    await page.get_by_label("What to monitor").fill(receiver.url("/shop"))
    await page.get_by_label("Name", exact=True).fill("Shop")
    await page.get_by_text("Check settings").click()
    await page.get_by_label("Interval in seconds").fill("often")
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.locator("#interval-error")).to_have_text("must be a number")
    assert await page.get_by_label("Name", exact=True).input_value() == "Shop", "what was typed is still there"
    await page.get_by_label("Interval in seconds").fill("1")
    await page.get_by_label("Failed checks in a row").fill("1")
    await page.get_by_label("Keyword that the response must contain").fill("well")
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.get_by_role("heading", name="Shop", exact=True)).to_be_visible()
    await page.evaluate("window.sameLoad = true")
    badge = page.locator("#now .badge")
    await expect(badge).to_have_text("up", timeout=15_000)
    await expect(page.locator("#checks")).to_contain_text("OK 200")
    for said in ("Uptime over 30 days: no failures on 1 of 1 day", "Response time over 24 h"):
        await expect(page.get_by_role("img", name=re.compile(f"^{said}"))).to_be_visible()
    await expect(page.locator("#percentiles")).to_have_text(re.compile("half of the responses within .* ms"))
    receiver.otherwise = DOWN
    await expect(badge).to_have_text("down", timeout=15_000)
    await expect(page.locator("#incidents")).to_contain_text("500")
    assert await page.evaluate("window.sameLoad")


async def test_the_page_says_that_a_monitor_flaps_and_its_form_when_an_incident_ends(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    uuid = await make(client, url="http://127.0.0.1:9/", interval=3600)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await expect(page.locator("#flapping")).to_have_count(0)
    await page.get_by_text("Check settings").click()
    await page.get_by_label("Good checks in a row before it ends").fill("3")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_label("Good checks in a row before it ends")).to_have_value("3")
    assert (await monitor(client, uuid))["recoveries"] == 3
    database = await asyncpg.connect(service.database)
    await database.execute(
        "INSERT INTO flapping SELECT id, new_id(), now(), now(), 23, now() - interval '1 min' FROM network_monitors"
    )
    await page.reload()
    await expect(page.locator("#flapping")).to_have_text(re.compile(r"Flapping: down 2\d times, the last .* ago"))
    await database.execute("UPDATE flapping SET changed_at = now() - interval '31 min'")
    await database.close()
    await page.reload()
    await expect(page.locator("#flapping")).to_have_count(0)


async def test_pausing_stops_the_checks_and_resuming_goes_on(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    uuid = await make(client, url=receiver.url("/"))
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#now .badge")).to_have_text("paused")
    assert (await monitor(client, uuid))["paused"] is True
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#now .badge")).to_have_text("up", timeout=15_000)
    assert (await monitor(client, uuid))["paused"] is False
    receiver.otherwise = DOWN
    await expect(page.locator("#now .badge")).to_have_text("down", timeout=15_000)
    await page.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Its ongoing incident is resolved")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(page.locator("#now .badge")).to_have_text("paused")
    assert (await monitor(client, uuid))["open_incident_uuids"] == []


async def test_settings_are_changed_by_the_form_and_wrong_ones_refused_in_words(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    uuid = await make(client, url=receiver.url("/"), expected_status=[200, "3xx"], keyword="well", timeout=2.5)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await page.get_by_text("Check settings").click()
    assert await page.get_by_label("Expected statuses").input_value() == "200, 3xx"
    assert await page.get_by_label("Timeout in seconds").input_value() == "2.5"
    await page.get_by_label("Name", exact=True).fill("Front door")
    await page.get_by_label("Expected statuses").fill("fine")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#expected_status-error")).to_contain_text("must be a status such as 200")
    await page.get_by_label("Expected statuses").fill("204")
    await page.get_by_label("Keyword that the response must contain").fill("")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    changed = await monitor(client, uuid)
    assert (changed["name"], changed["expected_status"], changed["keyword"]) == ("Front door", 204, None)
    assert (changed["interval"], changed["timeout"], changed["url"]) == (1, 2.5, receiver.url("/"))


async def test_the_list_is_sorted_searched_and_kept_true(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = UP
    await make(client, url="http://127.0.0.1:9/", name="Closed")
    await make(client, url=receiver.url("/"), name="Open")
    await make(client, url=receiver.url("/paused"), name="Asleep", paused=True)
    await page.goto(f"{service.url}/network_monitors")
    rows = page.locator("#monitors .list > li")
    await expect(rows.locator(".badge")).to_have_text(["down", "up", "paused"], timeout=20_000)
    await expect(rows.locator(".title")).to_have_text(["Closed", "Open", "Asleep"])
    await expect(rows.nth(1)).to_contain_text("100 %")
    await expect(rows.nth(1).locator(".spark .line")).to_have_count(1, timeout=15_000)
    await page.get_by_label("Sort by").select_option("Newest first")
    await page.get_by_role("button", name="Show").click()
    await expect(rows.locator(".title")).to_have_text(["Asleep", "Open", "Closed"])
    await page.get_by_role("searchbox").fill("open")
    await page.keyboard.press("Enter")
    await expect(rows.locator(".title")).to_have_text(["Open"])


async def test_deleting_asks_first_and_says_what_goes(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await webhook(client)
    uuid = await make(client, url="http://127.0.0.1:9/", name="Shop", paused=True)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await page.locator("#notified").get_by_role("button", name="Attach On-call hook", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("On-call hook will be notified.")
    await page.get_by_role("button", name="Delete monitor").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Its uptime and charts and its 1 attachment are deleted permanently.")
    await dialog.get_by_role("button", name="Delete monitor").click()
    await expect(page.get_by_role("status")).to_have_text("Shop deleted.")
    assert (await client.get(f"{PATH}/{uuid}")).status_code == 404


async def test_a_reader_sees_everything_and_can_change_nothing(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    uuid = await make(client, url="http://127.0.0.1:9/", paused=True)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    token = await page.locator("main input[name=csrf]").first.input_value()
    await demote(service)
    await page.reload()
    assert await page.locator("main form[method=post]").count() == 0
    for path in ("", "/pause", "/delete", "/integrations"):
        answer = await page.request.post(f"{service.url}/network_monitors/{uuid}{path}", form={"csrf": token})
        assert answer.status == 403, path
    await page.goto(f"{service.url}/network_monitors/new")
    assert await page.locator("main form[method=post]").count() == 0


async def test_pages_with_much_on_them_are_for_everybody_and_hold_the_address_as_text(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    long = "http://127.0.0.1:9/" + "a-very-long-path/" * 20
    uuid = await make(client, url=long, name="<img src=x>" + "long" * 40, paused=True)
    member = await signed_in(service, browser, viewport={"width": 360, "height": 800}, color_scheme="dark")
    console = Console(member)
    for path in (f"/network_monitors/{uuid}", "/network_monitors", "/network_monitors/new", "/servers/new"):
        await member.goto(f"{service.url}{path}")
        assert await findings(member) == []
        assert not await too_wide(member), path
        assert await member.locator("main img").count() == 0
    assert console.said == []


async def test_the_page_says_when_the_registration_of_the_domain_ends_and_the_form_from_when_it_warns(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    uuid = await make(client, url="https://www.example.com/", paused=True)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await expect(page.locator("#domain")).to_have_count(0)
    await page.get_by_text("Request and connection").click()
    await page.get_by_label("Days before the domain's registration ends").fill("30")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#domain")).to_contain_text("Registration of example.com.")
    database = await asyncpg.connect(service.database)
    await database.execute("""
        UPDATE domains SET expires_at = '2099-08-13 04:00Z', asked_at = now(), registrar = '<b>Example</b>, Inc.',
                           problem = 'Its registry answered with status 503'
    """)
    await database.close()
    await page.reload()
    await expect(page.locator("#domain")).to_contain_text("Registration of example.com with <b>Example</b>, Inc.: ends")
    await expect(page.locator("#domain")).to_contain_text("2099")
    await expect(page.locator("#domain")).to_contain_text("Its registry answered with status 503.")
    assert (await monitor(client, uuid))["domain_days"] == 30
