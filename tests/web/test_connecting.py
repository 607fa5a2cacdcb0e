"""Integrations that take two steps, in a real browser: a phone that must be proved, and a consent at Slack."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.browser import signed_in
from tests.service import service_on, started
from tests.slack_server import SlackServer
from tests.telegram_server import TelegramServer

NUMBER = "+14155550100"


async def arrives(page: Page) -> None:
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#test")).to_contain_text("delivered", timeout=15_000)


async def test_a_phone_is_told_only_after_the_code_that_it_got_was_typed_in(
    database: str, tmp_path: Path, browser: Browser
) -> None:
    outbox = tmp_path / "outbox"

    def texts() -> list[str]:
        return [each.read_text() for each in sorted(outbox.glob("sms-*.txt"))]

    environ = {"TOCSIN_ENV": "production", "TOCSIN_SMS_PROVIDER": "outbox", "TOCSIN_DATA_DIR": str(tmp_path)}
    async with started(service_on(database, tmp_path, **environ)) as service:
        page = await signed_in(service, browser)
        await page.goto(f"{service.url}/integrations/new")
        await page.locator("a[href*=SmsIntegration]").click()
        await page.locator("#phone_number").fill("not a number")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator("#phone_number-error")).to_be_visible()
        assert not texts()
        await page.locator("#phone_number").fill(NUMBER)
        await page.get_by_role("button", name="Continue").click()
        await page.locator("#verification_code").fill("000000")
        await page.locator("#verification_code").press("Enter")
        await expect(page.locator("#verification_code-error")).to_be_visible()
        [sent] = texts()
        found = re.search(r"\b\d{6}\b", sent)
        assert found
        await page.locator("#verification_code").fill(found[0])
        await page.locator("#verification_code").press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text(NUMBER)
        await arrives(page)
        assert len(texts()) == 2


async def test_slack_is_connected_by_its_button_and_the_way_back_leads_to_the_integrations(
    database: str, tmp_path: Path, browser: Browser, slack: SlackServer
) -> None:
    async with started(service_on(database, tmp_path, **slack.environ())) as service:
        page = await signed_in(service, browser)
        await page.goto(f"{service.url}/integrations/new")
        await page.locator("form[action='/integrations/slack'] button").click()
        consent = await page.locator(f"a[href^='{slack.url}']").first.get_attribute("href")
        assert consent
        await page.goto(f"{service.url}{slack.deny(consent)}")
        await expect(page.get_by_text("access was not granted at Slack")).to_be_visible()
        await page.goto(f"{service.url}/integrations/new")
        await page.locator("form[action='/integrations/slack'] button").click()
        consent = await page.locator(f"a[href^='{slack.url}']").first.get_attribute("href")
        assert consent
        await page.goto(f"{service.url}{slack.consent(consent, slack.workspace())}")
        await expect(page.get_by_text("is connected")).to_be_visible()
        await page.get_by_role("link", name="My Workspace #alerts").first.click()
        await arrives(page)


async def test_a_chat_of_telegram_is_found_by_the_code_that_the_page_shows(
    database: str, tmp_path: Path, browser: Browser, telegram: TelegramServer
) -> None:
    async with started(service_on(database, tmp_path, **telegram.environ())) as service:
        bot, chat = telegram.bot(), telegram.chat("Operations", "supergroup")
        page = await signed_in(service, browser)
        await page.goto(f"{service.url}/integrations/new")
        await page.locator("a[href*=TelegramIntegration]").click()
        await page.locator("#bot_token").fill("not a token")
        await page.get_by_role("button", name="Create integration").click()
        await expect(page.locator("#bot_token-error")).to_be_visible()
        await page.locator("#bot_token").fill(bot.token)
        await page.get_by_role("button", name="Create integration").click()
        await expect(page.get_by_text("Nothing is sent yet")).to_be_visible()
        text = await page.locator("#chat code").inner_text()
        assert await page.locator(f"a[href='https://t.me/{bot.username}?start={text.split()[1]}']").count() == 1
        await page.get_by_role("button", name="Make another code").click()
        newer = await page.locator("#chat code").inner_text()
        assert newer != text
        telegram.write(bot, chat, newer)
        await expect(page.locator("#chat")).to_contain_text("writes to Operations", timeout=15_000)
        await page.reload()
        await expect(page.get_by_text("Nothing is sent yet")).not_to_be_visible()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Telegram Operations")
        await arrives(page)
