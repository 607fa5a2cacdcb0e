"""Who is notified, on the page of a server or a monitor: the time line, changed by form, by dragging, and asked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.calls import new_monitor, new_server
from tests.service import Service
from tocsin.web import attachment_form

SECONDS = 90
PLAIN = {"after": 0, "repeat": None, "incident_types": None, "severity": None, "hours": None}


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser, timezone_id="Europe/Vienna")
    await page.context.add_cookies([{"name": "zone", "value": "Europe/Vienna", "url": service.url}])
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def webhook(client: httpx.AsyncClient, name: str) -> str:
    settings = {"webhook_url": "https://example.com/hook"}
    given = {"type": "Integrations::WebhookIntegration", "name": name, "settings": settings}
    return str((await client.post("/api/v1/integrations", json={"integration": given})).json()["uuid"])


async def attached(client: httpx.AsyncClient, path: str) -> dict[str, dict[str, Any]]:
    found = (await client.get(f"/api/v1{path}/integrations")).json()
    return {each["name"]: each.get("attachment", {}) for each in found}


async def attach(client: httpx.AsyncClient, path: str, name: str, **how: Any) -> str:
    uuid = await webhook(client, name)
    answer = await client.post(f"/api/v1{path}/integrations", json={"integration_id": uuid, **how})
    assert answer.status_code in (200, 201), answer.text
    return uuid


def row(page: Page, name: str) -> Locator:
    return page.locator("#notified .told", has_text=name)


async def test_a_first_escalation_is_set_up_in_a_minute_and_a_half_of_clicks(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    path = f"/servers/{await new_server(client)}"
    for name in ("Ann", "Bob"):
        await webhook(client, name)
    began = time.monotonic()
    await page.goto(f"{service.url}/servers")
    await page.get_by_role("main").get_by_role("link", name="my-server").first.click()
    told = page.locator("#notified")
    await expect(told).to_contain_text("Nobody is notified")
    await told.get_by_role("button", name="Attach Ann", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Ann will be notified.")
    await told.get_by_text("Not attached: 1").click()
    await told.get_by_label("Attach, to be notified").select_option("after 10 min")
    await told.get_by_role("button", name="Attach Bob", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Bob will be notified after 10 min.")
    await expect(told.locator("h3")).to_have_text(["At once", "After 10 min, unless acknowledged"])
    await expect(told.locator(".told .title")).to_have_text(["Ann", "Bob"])
    assert time.monotonic() - began < SECONDS
    assert await attached(client, path) == {"Ann": {}, "Bob": PLAIN | {"after": 600}}


async def test_how_somebody_is_notified_is_changed_where_it_stands_and_what_is_wrong_can_be_typed_again(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    path = f"/network_monitors/{await new_monitor(client)}"
    await attach(client, path, "Ann")
    await page.goto(f"{service.url}{path}")
    form = row(page, "Ann").locator("form")
    await page.get_by_text("at once, change how Ann is notified").click()
    await form.get_by_label("Notify", exact=True).select_option("after 5 min")
    await form.get_by_label("Again, while nobody has it").select_option("every 30 min")
    await form.get_by_label("Only these types").fill("timeout, dns_error")
    await form.get_by_label("Severity").select_option("Critical only")
    for day in ("Mon", "Tue", "Sun"):
        await form.get_by_label(day).check()
    await form.get_by_label("From").fill("18:00")
    await form.get_by_label("To", exact=True).fill("00:00")
    assert await form.get_by_label("Time zone").input_value() == "Europe/Vienna"
    await form.get_by_label("Time zone").fill("Europe/Nowhere")
    await form.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator(".error")).to_have_text("must be a time zone such as Europe/Vienna or UTC")
    assert await page.get_by_label("Only these types").input_value() == "timeout, dns_error"
    await expect(page.get_by_label("Sun")).to_be_checked()
    await page.get_by_label("Time zone").fill("Europe/Vienna")
    await page.get_by_label("Notify after another number of minutes").fill("7.5")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Ann will be notified after 7 min 30 s.")
    wanted = {
        "after": 450, "repeat": 1800, "incident_types": ["timeout", "dns_error"], "severity": "critical",
        "hours": {"timezone": "Europe/Vienna", "days": "SU-TU", "from": "18:00", "to": "24:00"},
    }  # fmt: skip
    assert await attached(client, path) == {"Ann": wanted}
    told = row(page, "Ann")
    await expect(told).to_contain_text("only timeout, dns_error · only critical · Sun–Tue 18:00–24:00")
    await expect(told).to_contain_text("again every 30 min")
    await page.get_by_text("after 7 min 30 s, change").click()
    await expect(form.get_by_label("Notify", exact=True)).to_have_value("450")
    await expect(form.get_by_label("To", exact=True)).to_have_value("00:00")
    await form.get_by_role("button", name="Save for all servers and monitors").click()
    await expect(page.get_by_role("status")).to_contain_text("now notified about all servers and monitors")
    assert await attached(client, f"/servers/{await new_server(client)}") == {"Ann": wanted}


async def test_a_dot_is_dragged_along_its_line(service: Service, page: Page, client: httpx.AsyncClient) -> None:
    path = f"/servers/{await new_server(client)}"
    await attach(client, path, "Ann", repeat=600)
    await page.goto(f"{service.url}{path}")
    dot = row(page, "Ann").locator("circle")
    await dot.scroll_into_view_if_needed()

    async def drag(to: int) -> None:
        """From where the dot is to where the line says `to` seconds."""
        line, start = await row(page, "Ann").locator("line").bounding_box(), await dot.bounding_box()
        assert line
        assert start
        await page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        await page.mouse.down()
        end = line["x"] + line["width"] * attachment_form.place(to) / 100
        await page.mouse.move(end, start["y"], steps=5)

    await drag(1800)
    await expect(row(page, "Ann").locator(".after")).to_have_text("after 30 min")
    await page.keyboard.press("Escape")
    await expect(row(page, "Ann").locator(".after")).to_have_text("at once")
    await page.mouse.up()
    assert (await attached(client, path))["Ann"]["after"] == 0
    await drag(1800)
    await page.mouse.up()
    await expect(page.get_by_role("status")).to_have_text("Ann will be notified after 30 min.")
    assert await attached(client, path) == {"Ann": PLAIN | {"after": 1800, "repeat": 600}}
    await drag(0)
    await page.mouse.up()
    await expect(page.get_by_role("status")).to_have_text("Ann will be notified at once.")
    assert (await attached(client, path))["Ann"]["after"] == 0


async def test_the_page_says_who_would_be_notified_as_if_it_were_another_time_type_or_severity(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    path = f"/servers/{await new_server(client)}"
    await attach(client, path, "Ann", incident_types=["disk"])
    await attach(client, path, "Bob", severity="critical")
    at = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=60)
    span = {"name": "Night", "starts_at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "integrations": None}
    ends = at + timedelta(hours=2)
    answer = await client.post("/api/v1/silences", json={"silence": {**span, "ends_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}})
    assert answer.status_code == 201, answer.text
    await page.goto(f"{service.url}{path}?over=1h")
    told = page.locator("#notified")
    await expect(row(page, "Ann")).to_contain_text("Not now, because: only disk")
    await expect(told.locator("h3")).to_have_text(["At once", "Not notified"])
    await told.get_by_text("As if it were").click()
    await told.get_by_label("Type", exact=True).fill("disk")
    await told.get_by_label("Severity", exact=True).last.select_option("warning")
    await told.get_by_role("button", name="Show").click()
    await expect(told).to_contain_text("Of a warning incident of the type disk that begins now")
    assert "over=1h" in page.url
    await expect(row(page, "Bob")).to_contain_text("Not now, because: only critical")
    await expect(told.locator(".told .title")).to_have_text(["Ann", "Bob"])
    await told.get_by_label("Severity", exact=True).last.select_option("critical")
    await told.get_by_label("Beginning at").fill(f"{at + timedelta(hours=2):%Y-%m-%dT%H:%M}")  # 13:00 UTC or 14:00
    await told.get_by_role("button", name="Show").click()
    await expect(told.locator("h3").first).to_contain_text(", unless acknowledged")
    await expect(row(page, "Ann")).to_contain_text('Not now, because: silence "Night" until ')
    assert f"{at.year}-" not in await told.inner_text(), "times are the reader's"
    await told.get_by_label("Beginning at").fill("2999-01-01T00:00")
    await told.get_by_role("button", name="Show").click()
    await expect(told.locator("#as-if-error")).to_have_text("It must be a time within a year from now.")
    await told.get_by_role("link", name="As it is now").click()
    await expect(told).to_contain_text("Of a critical incident of the type downtime that begins now")


async def test_everything_works_without_script_and_by_keyboard(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    path = f"/servers/{await new_server(client)}"
    await webhook(client, "Ann")
    plain = await signed_in(service, browser, java_script_enabled=False)
    await plain.goto(f"{service.url}{path}")
    await plain.get_by_label("Attach, to be notified").focus()
    await plain.keyboard.press("ArrowDown")
    await plain.get_by_role("button", name="Attach Ann", exact=True).focus()
    await plain.keyboard.press("Enter")
    await expect(plain.get_by_role("status")).to_have_text("Ann will be notified after 1 min.")
    await expect(plain.get_by_text("Drag a dot")).to_be_hidden()
    await plain.locator("#notified .told summary").focus()
    await plain.keyboard.press("Enter")
    await plain.get_by_label("Notify after another number of minutes").fill("3")
    await plain.keyboard.press("Enter")
    await expect(plain.get_by_role("status")).to_have_text("Ann will be notified after 3 min.")
    await plain.locator("#as-if summary").focus()
    await plain.keyboard.press("Enter")
    await plain.get_by_label("Type", exact=True).fill("cpu")
    await plain.keyboard.press("Enter")
    await expect(plain.locator("#notified")).to_contain_text("After 3 min, unless acknowledged")
    await expect(plain.locator("#notified")).to_contain_text("of the type cpu")
    await plain.get_by_role("button", name="Begin a fire drill").click()
    await expect(plain.get_by_role("heading", name="Fire drill")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_the_time_line_is_for_everybody(
    service: Service, page: Page, client: httpx.AsyncClient, width: int, scheme: str
) -> None:
    path = f"/servers/{await new_server(client)}"
    await attach(client, path, "long-" * 40, after=600, incident_types=["downtime", "x" * 64], repeat=60)
    uuid = await attach(client, path, "<b>Ann</b>", severity="warning")
    await webhook(client, "Nobody yet")
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for place in (f"{path}?type=disk", f"{path}/integrations/{uuid}"):
        await page.goto(f"{service.url}{place}")
        for summary in await page.locator("#notified summary").all():
            await summary.click()
        assert not await findings(page), place
        assert not await too_wide(page), place
    assert await page.locator("main b").count() == 0


async def test_a_reader_sees_who_is_notified_and_can_change_nothing(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    path = f"/servers/{await new_server(client)}"
    uuid = await attach(client, path, "Ann", after=60)
    await webhook(client, "Bob")
    await demote(service)
    await page.goto(f"{service.url}{path}?type=cpu")
    await expect(row(page, "Ann")).to_contain_text("after 1 min")
    assert await page.locator("#notified form:not([method=get])").count() == 0
    await page.goto(f"{service.url}{path}/integrations/{uuid}")
    assert await page.locator("main form").count() == 0


def test_delays_stand_in_order_on_the_line() -> None:
    places = [attachment_form.place(seconds) for seconds in range(0, 8 * 86_400, 450)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 100)
    assert [attachment_form.place(each) for each in attachment_form.DELAYS][1] == pytest.approx(100 / 13, abs=0.01)
