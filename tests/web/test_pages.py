"""The console in a real browser: first start by clicks, every page for everybody, pages that keep themselves true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest_asyncio
from litestar.handlers import HTTPRouteHandler
from playwright.async_api import Browser, Page

from tests.browser import SCHEMES, WIDTHS, Console, findings, signed_in, too_wide
from tests.service import Service
from tocsin import settings as configuration
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault
from tocsin.web import site

NO_PAGES = {"/live", "/sign-out"}
LARGEST = 100 * 1024


def pages() -> list[str]:
    """Every address of ours that is a page by itself."""
    found = {
        path
        for handler in site.routes()
        if isinstance(handler, HTTPRouteHandler) and "GET" in handler.http_methods
        for path in handler.paths
        if "{" not in path and "." not in path and path not in NO_PAGES and path.count("/") == 1
    }
    return sorted(found - {"/agent", "/favicon.ico"})


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    yield await signed_in(service, browser)


async def test_every_page_is_for_everybody_at_every_width_and_in_both_lights(
    service: Service, browser: Browser
) -> None:
    wrong: list[str] = []
    member, stranger = await signed_in(service, browser), await (await browser.new_context()).new_page()
    for who in (member, stranger):
        console = Console(who)
        seen: set[str] = set()
        for path in pages():
            answer = await who.goto(f"{service.url}{path}")
            assert answer
            place = urlsplit(who.url).path
            if answer.status >= 500:
                wrong.append(f"{place}: {answer.status}")
            if len(await answer.body()) > LARGEST:
                wrong.append(f"{place}: {len(await answer.body())} bytes")
            # each width and each light once: what is wrong in the dark is so at every width
            for width, scheme in zip(WIDTHS, reversed(SCHEMES), strict=True) if who.url not in seen else ():
                await who.set_viewport_size({"width": width, "height": 800})
                await who.emulate_media(color_scheme=scheme)
                wrong += [f"{place} at {width}, {scheme}: {each}" for each in await findings(who)]
                if await too_wide(who):
                    wrong.append(f"{place} at {width}, {scheme}: must be scrolled sideways")
            if answer.status < 400:
                wrong += [f"{place}: {each}" for each in console.said]
            console.said.clear()
            seen.add(who.url)
    assert not wrong, "\n".join(sorted(set(wrong)))


async def test_no_page_brings_script_or_style_of_its_own(service: Service, page: Page) -> None:
    for path in pages():
        answer = await page.goto(f"{service.url}{path}")
        assert answer
        policy = (await answer.all_headers())["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not await page.evaluate("document.querySelectorAll('style, [style], script:not([src])').length"), path


async def test_the_operator_comes_in_by_the_link_and_finds_the_way_by_keyboard_alone(
    own_service: Service, browser: Browser
) -> None:
    settings = configuration.load(environ=own_service.environ)
    pool: asyncpg.Pool = await storage.pool(own_service.database, size=1, name="tests")
    async with pool.acquire() as tx, tx.transaction():
        await tx.execute("DELETE FROM projects")
        await accounts.create_operator(tx, Vault(settings.secret_keys), operator.UNSET, None, "First project")
        link = await operator.new_link(tx, Vault(settings.secret_keys), own_service.url)
    await pool.close()
    assert link
    page = await (await browser.new_context()).new_page()
    console = Console(page)
    await page.goto(link)
    await page.focus("#email")
    for text in ("ann@example.com", "Ann", "correct horse", "correct horse"):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/integrations")
    await page.goto(f"{own_service.url}/account")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.locator("details.projects summary").press("Enter")
    await page.get_by_role("button", name="Sign out").press("Enter")
    await page.wait_for_url("**/sign-in?done=out")
    assert not [said for said in console.said if "404" not in said]


async def test_a_page_follows_what_happens_without_being_loaded_again(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/servers")
    await page.evaluate("window.sameLoad = true")
    report = {
        "attributes": {"motherboard_id": "board", "hostname": "web-1"}, "metrics": [], "agent_version": "1.0.0",
    }  # fmt: skip
    assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
    await page.get_by_text("web-1").first.wait_for(timeout=10_000)
    assert await page.evaluate("window.sameLoad")


async def test_the_stream_tells_of_a_change(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}/account")
    told = page.evaluate(
        "() => new Promise((done) => { const live = new EventSource('/live?of=servers');"
        " live.addEventListener('changed', () => { live.close(); done('changed'); }); })"
    )
    waiting = asyncio.ensure_future(told)
    report = {"attributes": {"motherboard_id": "b2"}, "metrics": [], "agent_version": "1.0.0"}
    async with service.client() as client:
        for _ in range(20):
            assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
            if (await asyncio.wait({waiting}, timeout=1))[0]:
                break
    assert await asyncio.wait_for(waiting, 1) == "changed"


async def test_a_confirmation_is_asked_before_what_cannot_be_undone(service: Service, page: Page) -> None:
    other = await signed_in(service, page.context.browser)  # type: ignore[arg-type]
    await page.goto(f"{service.url}/account")
    await page.get_by_role("button", name="End all other sessions").click()
    await page.get_by_role("button", name="Cancel").click()
    await other.goto(f"{service.url}/account")
    assert urlsplit(other.url).path == "/account"
    await page.get_by_role("button", name="End all other sessions").click()
    await page.get_by_role("dialog").get_by_role("button", name="End all other sessions").click()
    await page.get_by_text("The session has ended").wait_for()
    await other.goto(f"{service.url}/account")
    assert urlsplit(other.url).path == "/sign-in"
