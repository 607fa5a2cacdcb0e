"""Who sees what, in a real browser: disagreement first, in words, filtered, on a phone, and quick with a thousand."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, findings, signed_in, too_wide
from tests.probe_scene import MANY, checked_from, connected, new_probe, saw
from tests.service import Service
from tests.web.test_network_monitors import make

PLACES = ("here", "graz", "oslo", "porto", "wien")


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not console.said


async def quiet_monitor(client: httpx.AsyncClient, name: str) -> str:
    return await make(client, name=name, url=f"http://127.0.0.1:9/{name}", interval=3600, paused=True)


async def resume(service: Service) -> None:
    """Without a check: what places saw is the test's."""
    async with connected(service.database) as connection:
        await connection.execute(
            "UPDATE network_monitors SET paused = false, interval = 60 WHERE project_id = $1", service.project.id
        )


async def scene(service: Service, client: httpx.AsyncClient) -> dict[str, str]:
    """Three monitors from three places: one that all see up, one that one sees down, one that one is silent about."""
    own = service.project.id
    graz, wien = (f"{name}-{own.hex[-8:]}" for name in ("graz", "wien"))
    for name in (graz, wien):
        await new_probe(service.database, own, name, only=own)
    made = {name: await quiet_monitor(client, name) for name in ("Agreed", "Disputed", "Unheard", "Alone")}
    for name, uuid in made.items():
        if name != "Alone":
            await checked_from(service.database, uuid, ["here", graz, wien])
            for place in ("here", graz, wien):
                await saw(service.database, uuid, place, ms=85.4)
    await saw(service.database, made["Disputed"], graz, "connection_error", "refused")
    await saw(service.database, made["Unheard"], wien, ago=3_600)
    await resume(service)
    return {**made, "graz": graz, "wien": wien}


async def test_places_that_disagree_come_first_and_each_cell_says_in_words_what_was_seen_and_when(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    made = await scene(service, client)
    await page.goto(f"{service.url}/network_monitors")
    await page.get_by_role("main").get_by_role("link", name="Who sees what").click()
    table = page.get_by_role("table")
    await expect(table.get_by_role("columnheader")).to_have_text(["Monitor", "Here", made["graz"], made["wien"]])
    await expect(table.get_by_role("rowheader")).to_have_text(
        [re.compile("^Disputed"), re.compile("^Unheard"), re.compile("^Agreed"), re.compile("^Alone")]
    )
    disputed = table.get_by_role("row", name="Disputed").get_by_role("cell")
    await expect(disputed).to_have_text(
        [re.compile(r"^good\d+ s ago, 85 ms$"), re.compile(r"^no connection\d+ s ago$"), re.compile("^good")]
    )
    unheard = table.get_by_role("row", name="Unheard").get_by_role("cell")
    await expect(unheard.nth(2)).to_have_text(re.compile("^silent1 h .*ago$"))
    alone = table.get_by_role("row", name="Alone").get_by_role("cell")
    await expect(alone).to_have_text(["not heard yet", "", ""])
    await expect(page.locator("#map")).to_contain_text("Places disagree about 1 of 4 monitors.")
    assert await findings(page) == []
    await saw(service.database, made["Disputed"], made["graz"])
    await page.get_by_label("Which monitors").select_option(label="Where places disagree")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("heading", name="No place disagrees")).to_be_visible()


async def test_the_map_is_searched_and_filtered_together(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    made = await scene(service, client)
    await saw(service.database, made["Agreed"], made["wien"], "timeout")
    await page.goto(f"{service.url}/map?only=disagree")
    await expect(page.get_by_role("rowheader")).to_have_text([re.compile("^Agreed"), re.compile("^Disputed")])
    await page.get_by_label("Part of the name or address").fill("DISPUTE")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("rowheader")).to_have_text([re.compile("^Disputed")])
    assert await page.get_by_label("Which monitors").input_value() == "disagree"
    await page.goto(f"{service.url}/map?q=%3Cb%3E")
    await expect(page.locator("#map")).to_contain_text("No such monitor has “<b>” in its name")
    await page.goto(f"{service.url}/map?page=7")
    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


async def test_without_probes_the_map_says_how_to_add_one(service: Service, page: Page) -> None:
    async with connected(service.database) as connection:
        await connection.execute("DELETE FROM probes")
    await page.goto(f"{service.url}/map")
    await expect(page.get_by_role("heading", name="No monitors yet")).to_be_visible()
    await page.locator("#no-probes").get_by_role("link", name="Add a probe").click()
    await expect(page.locator("#add-line")).to_have_text("tocsin probe add NAME")
    await expect(page.locator("#run-line")).to_contain_text(f"--url {service.url}")


async def test_on_a_phone_the_map_is_lines_that_name_their_place(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    made = await scene(service, client)
    phone = await signed_in(service, browser, viewport={"width": 360, "height": 800}, color_scheme="dark")
    await phone.goto(f"{service.url}/map")
    assert not await too_wide(phone)
    assert await findings(phone) == []
    cell = phone.get_by_role("row", name="Disputed").locator("td").nth(1)
    assert await cell.evaluate("each => getComputedStyle(each, '::before').content") == f'"{made["graz"]}"'
    region = await phone.locator(".scroll").evaluate("each => each.scrollWidth <= each.clientWidth")
    assert region, "nothing is hidden at its side"
    await expect(phone.get_by_role("row", name="Alone").locator("td").nth(1)).to_be_hidden()


async def test_a_thousand_monitors_from_five_places_are_quick_and_short(service: Service, page: Page) -> None:
    async with connected(service.database) as connection:
        await connection.execute(MANY, service.project.id, list(PLACES))
    for address in ("/map", "/map?only=disagree&q=number", "/map?page=40"):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            answer = await page.request.get(f"{service.url}{address}")
            times.append(time.perf_counter() - began)
            assert answer.status == 200
            assert len(await answer.body()) < 100_000
        assert min(times) < 1.0, address  # 100 ms on a quiet machine
    await page.goto(f"{service.url}/map")
    await expect(page.locator("#map")).to_contain_text("Places disagree about 100 of 1,000 monitors.")
    await page.get_by_role("link", name="Next").click()
    await expect(page.get_by_text("page 2")).to_be_visible()


async def test_even_with_long_names_and_many_places_a_page_is_short(service: Service, page: Page) -> None:
    places = ["here", *(f"{number:02d}-{'x' * 47}" for number in range(60))]
    async with connected(service.database) as connection:
        await connection.execute(MANY.replace("'Monitor number ' || n", "repeat('<&', 60)"), service.project.id, places)
    answer = await page.request.get(f"{service.url}/map")
    assert len(await answer.body()) < 100_000
    assert "41 more places" in await answer.text()
