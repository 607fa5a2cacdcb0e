"""A real browser: Debian's Chromium, driven by Playwright; every page is held to accessibility and a clean console."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Literal

import asyncpg
from playwright.async_api import Browser, Page, async_playwright

from tests.needed import program
from tests.service import Service
from tocsin import settings as configuration
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
WIDTHS = (360, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SERIOUS = {"serious", "critical"}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser; without one on the machine the test is skipped, or fails in CI."""
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Console:
    """What a page said that it should not have: script errors, refused loads, failed requests."""

    def __init__(self, page: Page) -> None:
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))


async def findings(page: Page) -> list[str]:
    """Axe's serious and critical findings on the page as it is: rule, where, why.

    Source: https://github.com/dequelabs/axe-core/blob/develop/doc/API.md
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_axe())
    found: Any = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url} {each['id']}: {json.dumps([node['target'] for node in each['nodes']][:5])} {each['help']}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


async def too_wide(page: Page) -> bool:
    """Whether the page must be scrolled sideways."""
    await page.wait_for_load_state()
    return bool(await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def _axe() -> str:
    return resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")


async def signed_in(service: Service, browser: Browser, **options: Any) -> Page:
    """A page of somebody who owns the test's project."""
    settings = configuration.load(environ=service.environ)
    pool: asyncpg.Pool = await storage.pool(service.database, size=1, name="tests")
    vault = Vault(settings.secret_keys)
    try:
        async with pool.acquire() as tx, tx.transaction():
            user = await accounts.ensure_user(tx, "ann@example.com")
            await tx.execute(f"{accounts.INSERT_MEMBER} ON CONFLICT DO NOTHING", service.project.id, user.id, "owner")
            await accounts.switch(tx, user.id, service.project.id)
            token = await sessions.begin(tx, vault, user, "Chrome on Linux")
    finally:
        await pool.close()
    context = await browser.new_context(**options)
    await context.add_cookies([{"name": "tocsin", "value": token, "url": service.url}])
    return await context.new_page()


async def demote(service: Service) -> None:
    """From now on everybody in the test's project may only read it."""
    connection = await asyncpg.connect(service.database)
    await connection.execute("UPDATE members SET role = 'reader' WHERE project_id = $1", service.project.id)
    await connection.close()
