"""The pages of incidents and deliveries in a real browser: seen live, resolved, snoozed, their log read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.calls import alarm, attach_to_all, integration, new_server, opened
from tests.receivers import Answer, Receiver
from tests.service import Service


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "403" not in said]


async def test_an_incident_is_seen_live_its_notice_read_and_it_is_resolved(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
    server = await new_server(client)
    await page.goto(f"{service.url}/incidents")
    await expect(page.get_by_text("No incidents yet")).to_be_visible()
    await page.evaluate("window.sameLoad = true")
    await client.post("/api/v1/incidents", json={"incident": alarm(server, "disk_failure")})
    link = page.get_by_role("link", name="disk_failure on")
    await link.wait_for(timeout=10_000)
    assert await page.evaluate("window.sameLoad"), "it came without a reload"
    await link.click()
    await expect(page.get_by_text("opened: delivered after")).to_be_visible(timeout=10_000)
    await page.locator("#snoozing summary").click()
    await page.get_by_role("button", name="Snooze").click()
    await expect(page.get_by_text("no notifications until then")).to_be_visible()
    await page.get_by_role("button", name="Resolve").click()
    await expect(page.get_by_text("Incident resolved.")).to_be_visible()
    await expect(page.get_by_text("resolved: delivered after")).to_be_visible(timeout=10_000)
    await expect(page.get_by_text("Resolved, by: ann@example.com")).to_be_visible()
    assert not await page.get_by_role("button", name="Resolve").count()
    await page.get_by_role("link", name=receiver.url()).first.click()
    await expect(page.get_by_text("delivered, answered 200")).to_be_visible()
    await page.get_by_role("link", name="All deliveries of this integration").click()
    await expect(page.get_by_role("link", name="opened: delivered")).to_be_visible()
    record = (await client.get("/api/v1/incidents")).json()["data"][0]
    assert record["status"] == "resolved"


async def test_what_lasts_stands_out_in_the_list_by_word_shape_and_colour(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    server = await new_server(client)
    for kind in ("disk_failure", "clock"):
        await client.post("/api/v1/incidents", json={"incident": alarm(server, kind)})
    await page.goto(f"{service.url}/incidents")
    colours = {}
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for kind in ("disk_failure", "clock"):
            badge = page.locator("li", has_text=f"{kind} on").locator(".badge")
            await expect(badge).to_have_text("Critical" if kind == "disk_failure" else "Warning")
            await expect(badge.locator(".dot")).to_be_visible()
            colours[scheme, kind] = await badge.evaluate("each => getComputedStyle(each).color")
    assert colours["light", "disk_failure"] == "rgb(179, 32, 28)"
    assert len(set(colours.values())) == 4, "a warning is another colour, and each suits its ground"


async def test_the_log_says_what_went_wrong_and_can_be_filtered(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(404, body=b"no such hook")
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    await attach_to_all(client, uuid)
    await client.post("/api/v1/incidents", json={"incident": alarm(await new_server(client))})
    await page.goto(f"{service.url}/integrations/{uuid}/deliveries?status=dead")
    await page.get_by_role("link", name="opened: dead").click(timeout=15_000)
    await expect(page.get_by_text("no such hook").first).to_be_visible()
    await page.goto(f"{service.url}/integrations/{uuid}/deliveries?status=delivered")
    await expect(page.get_by_text("Nothing here")).to_be_visible()


async def test_readers_may_look_and_not_resolve_and_other_projects_see_nothing(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    opened = await client.post("/api/v1/incidents", json={"incident": alarm(await new_server(client))})
    uuid = opened.json()["uuid"]
    await demote(service)
    await page.goto(f"{service.url}/incidents/{uuid}")
    await expect(page.get_by_text("Ongoing")).to_be_visible()
    assert not await page.get_by_role("button", name="Resolve").count()
    for path in ("/incidents/INC00000000000000000000000000", "/deliveries/DLV1", "/integrations/INT1/deliveries"):
        answer = await page.goto(service.url + path)
        assert answer
        assert answer.status == 404


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_the_pages_are_for_everybody(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver, width: int, scheme: str
) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    await attach_to_all(client, uuid)
    named = {"X-Request-Id": "x" * 128}
    opened = await client.post("/api/v1/incidents", json={"incident": alarm(await new_server(client))}, headers=named)
    incident = opened.json()["uuid"]
    delivery = (await client.get(f"/api/v1/incidents/{incident}/deliveries")).json()["data"][0]["uuid"]
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in ("/incidents", f"/incidents/{incident}", f"/deliveries/{delivery}", f"/integrations/{uuid}/deliveries"):
        await page.goto(service.url + path)
        assert not await findings(page), path
        assert not await too_wide(page), path
        if path.startswith("/deliveries"):
            await expect(page.get_by_text("Request " + "x" * 128)).to_be_visible()


async def test_a_person_snoozes_until_a_moment_of_their_choice(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/api/v1/incidents", json={"incident": alarm(await new_server(client), "disk_failure")})
    uuid = answer.json()["uuid"]
    await page.goto(f"{service.url}/incidents/{uuid}")
    await page.locator("#snoozing summary").click()
    await page.locator("#until").fill("2001-02-03T04:05")
    await page.get_by_role("button", name="Snooze").click()
    await expect(page.get_by_text("Choose a time in the future")).to_be_visible()
    moment = (datetime.now(UTC) + timedelta(days=2)).replace(second=0, microsecond=0)
    zone = await page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    await page.locator("#snoozing summary").click()
    await page.locator("#until").fill(moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M"))
    await page.get_by_role("button", name="Snooze").click()
    await expect(page.get_by_text("no notifications until then")).to_be_visible()
    until = (await client.get(f"/api/v1/incidents/{uuid}")).json()["snooze_until"]
    assert datetime.fromisoformat(until) == moment


async def test_a_person_acknowledges_for_an_hour_and_takes_it_back_without_scripts_too(
    service: Service, browser: Browser, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    server = await new_server(client)
    first = await integration(client, "WebhookIntegration", webhook_url=receiver.url("/first"))
    later = await integration(client, "WebhookIntegration", webhook_url=receiver.url("/later"))
    for each, after in ((first, 0), (later, 3600)):
        body = {"integration_id": each, "after": after}
        assert (await client.post(f"/api/v1/servers/{server}/integrations", json=body)).status_code == 201
    uuid = (await client.post("/api/v1/incidents", json={"incident": alarm(server)})).json()["uuid"]
    page = await signed_in(service, browser, java_script_enabled=False)
    await page.goto(f"{service.url}/incidents/{uuid}")
    buttons = await page.locator("#incident button").all_text_contents()
    assert buttons[:3] == ["Acknowledge", "Acknowledge for 1 h", "Resolve"]
    waiting = page.locator("#incident .list li", has_text="/later")
    await expect(waiting).to_contain_text("opened: pending: its turn is at")
    await expect(waiting.locator("time")).to_have_text(re.compile("UTC$"))
    await page.get_by_role("button", name="Acknowledge for 1 h").click()
    await expect(page.get_by_role("status")).to_contain_text("You have it for 1 h: until then nobody else is told")
    record = (await client.get(f"/api/v1/incidents/{uuid}")).json()
    lasts = datetime.fromisoformat(record["acknowledged_until"]) - datetime.fromisoformat(record["acknowledged_at"])
    assert (record["acknowledged_by"], round(lasts.total_seconds() / 60)) == ("ann@example.com", 60)
    await expect(waiting).to_contain_text("opened: suppressed: acknowledged by ann@example.com before its turn")
    for path in ("/incidents", f"/servers/{server}"):
        await page.goto(f"{service.url}{path}")
        await expect(page.get_by_text("ann@example.com has it until")).to_be_visible()
    await page.goto(f"{service.url}/incidents/{uuid}")
    assert await page.get_by_role("button", name="Acknowledge").count() == 0
    await page.get_by_role("button", name="I do not have it").click()
    await expect(page.get_by_text("Nobody has it any more, says ann@example.com")).to_be_visible()
    steps = await page.locator("#incident .list .main").all_inner_texts()
    assert next(each for each in steps if "has it" in each).startswith("ann@example.com has it until")
    assert steps[0] == "Opened"
    assert (await client.get(f"/api/v1/incidents/{uuid}")).json()["acknowledged_by"] is None
    await page.get_by_role("button", name="Acknowledge", exact=True).click()
    assert (await client.get(f"/api/v1/incidents/{uuid}")).json()["acknowledged_until"] is None


async def test_an_incident_that_began_in_a_silence_says_so_and_in_the_reader_s_zone_until_when(
    service: Service, browser: Browser, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
    ends = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    silence = {"name": "Backups", "ends_at": ends.isoformat()}
    assert (await client.post("/api/v1/silences", json={"silence": silence})).status_code == 201
    uuid = (await opened(client, alarm(await new_server(client)))).json()["uuid"]
    page = await signed_in(service, browser, timezone_id="Pacific/Chatham", locale="de-AT")
    await page.goto(f"{service.url}/incidents/{uuid}")
    await expect(page.get_by_role("link", name="Opened, during the silence Backups")).to_be_visible()
    waiting = page.locator("#incident .list li", has_text='silence "Backups" until')
    there = f"{ends.astimezone(ZoneInfo('Pacific/Chatham')):%H:%M:%S}"
    await expect(waiting.locator("time")).to_contain_text(there)
    await expect(waiting).not_to_contain_text("T")
    await page.goto(f"{service.url}/incidents")
    await page.get_by_role("link", name="silence", exact=True).click()
    await expect(page.get_by_role("heading", name="Backups")).to_be_visible()


async def test_the_list_is_limited_to_what_is_ongoing_of_one_severity(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    server = await new_server(client)
    for kind, severity in (("disk_failure", "critical"), ("ram", "warning"), ("load", "info")):
        await client.post("/api/v1/incidents", json={"incident": {**alarm(server, kind), "severity": severity}})
    await page.goto(f"{service.url}/incidents")
    await page.get_by_role("link", name="Warnings now").click()
    await expect(page.locator("#incidents a.title")).to_have_text(["ram on my-server"])
    await page.goto(f"{service.url}/incidents?severity=worst")
    await expect(page.locator("#incidents a.title")).to_have_count(3)
    await client.post("/api/v1/incidents/resolve", json={"incident": alarm(server, "load")})
    await page.goto(f"{service.url}/incidents?severity=info")
    await expect(page.get_by_text("Nothing of that severity is ongoing")).to_be_visible()
