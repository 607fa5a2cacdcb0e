"""Telegram when something goes wrong: limits, deaths in the middle, messages and chats that are gone."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.service import service_on
from tests.slack_scene import ended, incident
from tests.telegram_chats import Bot, Chat
from tests.telegram_scene import (
    _telegram,
    _telegram_service,
    bot,
    chat,
    code,
    connected,
    made,
    message,
    press,
    service,
    settings,
    telegram,
    trial,
)
from tests.telegram_server import TelegramServer
from tests.waiting import until
from tocsin.integrations.telegram import failed
from tocsin.transports.telegram import Parameters, TelegramRefused

__all__ = ["_telegram", "_telegram_service", "bot", "chat", "service", "telegram"]


async def test_the_last_update_lands_after_a_rate_limit_and_not_before_its_time(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    telegram.fail("editMessageText", 429, "Too Many Requests: retry after 2", retry_after=2)
    telegram.fail("editMessageText", 500, "Internal Server Error")
    telegram.fail("editMessageText", 502, raw=b"<html>Bad Gateway</html>")
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(telegram, chat, "Resolved") is posted
    attempts = (await ended(client, uuid, "resolved"))["attempts"]
    assert [each["outcome"] for each in attempts] == ["failed", "failed", "failed", "delivered"]
    assert "Too Many Requests" in attempts[0]["error"]
    first, second = [datetime.fromisoformat(each["started_at"].replace("Z", "+00:00")) for each in attempts[:2]]
    assert (second - first).total_seconds() >= 2


async def test_a_message_that_was_taken_without_being_named_is_posted_once_and_its_end_as_another(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    telegram.fail(
        "sendMessage", 200, raw=b'{"ok":true,"res', done=True, headers={"Content-Length": "500", "Connection": "close"}
    )
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    opening = await ended(client, uuid, "opened")
    assert (opening["status"], len(opening["attempts"])) == ("delivered", 1)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(telegram, chat, "Resolved") is not posted
    assert (await ended(client, uuid, "resolved"))["status"] == "delivered"


async def test_an_update_that_was_made_before_counts_as_made(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    telegram.fail("editMessageText", 500, "Internal Server Error", done=True)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    told = await ended(client, uuid, "resolved")
    assert [each["outcome"] for each in told["attempts"]] == ["failed", "delivered"]
    assert (posted.writes, len(telegram.in_(chat))) == (2, 2)


async def test_a_message_that_was_deleted_is_followed_by_a_new_one_that_says_both(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    await ended(client, uuid, "opened")
    telegram.messages.remove(posted)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert "Lasted " in (await message(telegram, chat, "Resolved")).text


async def test_a_press_on_a_message_that_nobody_remembers_resolves_and_updates_it_too(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    telegram.fail("sendMessage", 500, "Internal Server Error", done=True)
    begun = await incident(client)
    await message(telegram, chat, begun["incident_type"], 2)
    await ended(client, uuid, "opened")
    orphan, known = [each for each in telegram.in_(chat) if each.buttons]
    assert await press(telegram, orphan, "Resolve") == "Resolved."
    await message(telegram, chat, "Resolved", 2)
    assert not orphan.buttons
    assert not known.buttons


async def test_a_group_that_became_a_supergroup_is_followed_there(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot
) -> None:
    group = telegram.chat("Operations", "group")
    uuid = await connected(client, telegram, bot, group)
    begun = await incident(client)
    old = await message(telegram, group, begun["incident_type"])
    await ended(client, uuid, "opened")
    larger = telegram.upgrade(group)
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    await message(telegram, larger, "Resolved")
    await ended(client, uuid, "resolved")
    assert old.writes == 1
    assert (await settings(client, uuid))["chat_id"] == larger.id
    await incident(client)
    assert await press(telegram, await message(telegram, larger, "Ongoing since"), "Resolve") == "Resolved."


@pytest.mark.parametrize("trouble", [
    (403, "Forbidden: bot was blocked by the user"), (403, "Forbidden: bot was kicked from the group chat"),
    (403, "Forbidden: user is deactivated"), (400, "Bad Request: chat not found"),
])  # fmt: skip
async def test_a_chat_that_is_gone_disables_the_integration_with_the_reason(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat, trouble: tuple[int, str]
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    chat.trouble = trouble
    told = await trial(client, uuid)
    assert (told["status"], len(told["attempts"])) == ("dead", 1)
    health = (await client.get(f"/api/v1/integrations/{uuid}/health")).json()
    assert health["status"] == "disabled"
    assert trouble[1] in health["reason"]


async def test_a_token_that_was_revoked_disables_the_integration_and_is_shown_nowhere(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    bot.revoked = True
    told = await trial(client, uuid)
    assert told["status"] == "dead"

    async def look() -> str | None:
        return str((await code(client, uuid))["problem"] or "") or None

    problem = await until(look, what="it to be said that the bot cannot be read")
    assert "Unauthorized" in problem
    assert bot.token.partition(":")[2] not in f"{told} {problem}"


async def test_a_far_end_that_answers_with_our_address_does_not_put_the_token_on_record(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    telegram.fail("sendMessage", 400, raw=f"<p>cannot POST /bot{bot.token}/sendMessage</p>".encode())
    telegram.fail("sendMessage", 400, f"Bad Request: {bot.token}")
    told = await trial(client, uuid)
    assert [each["outcome"] for each in told["attempts"]] == ["failed", "failed", "delivered"]
    assert "cannot POST" in told["attempts"][0]["response"]
    assert bot.token.partition(":")[2] not in str(told)


async def test_presses_and_codes_survive_the_death_of_the_engine_and_count_once(
    database: str, tmp_path: Path, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    service = service_on(database, tmp_path, **telegram.environ())
    try:
        service.start()
        service.project = await service.new_project()
        async with service.client() as client:
            await connected(client, telegram, bot, chat)
            begun = await incident(client)
            posted = await message(telegram, chat, begun["incident_type"])
            service.engine.kill()
            other = telegram.chat("Another")
            telegram.write(bot, other, (await code(client, await made(client, bot)))["text"])
            for _ in range(2):
                telegram.press(posted, "Resolve")
            service.start()
            # Until then the bot is leased to the dead engine.
            await asyncio.to_thread(telegram.wait_for, chat, "Resolved", timeout=90)
            await message(telegram, other, "This chat is connected")
            deliveries = (await client.get(f"/api/v1/incidents/{begun['uuid']}/deliveries")).json()["data"]
            assert [each["event"] for each in deliveries].count("resolved") == 1
    finally:
        service.stop()


def refusal(status: int | None, description: str = "", **parameters: int) -> TelegramRefused:
    return TelegramRefused(f"Telegram said {status}", status, description, Parameters(**parameters))


@pytest.mark.parametrize(("refused", "retry"), [
    (refusal(None), "scheduled"), (refusal(500), "scheduled"), (refusal(429, retry_after=7), "scheduled"),
    (refusal(401, "Unauthorized"), "disable"), (refusal(404, "Not Found"), "disable"),
    (refusal(403, "Forbidden: bot is not a member of the channel chat"), "disable"),
    (refusal(400, "Bad Request: chat not found"), "disable"),
    (refusal(400, "Bad Request: message is too long"), "never"),
    (refusal(400, "Bad Request: can't parse entities: Unsupported start tag"), "never"),
    (refusal(400, "Bad Request: not enough rights to send text messages to the chat"), "twice"),
])  # fmt: skip
def test_each_refusal_is_retried_as_long_as_that_can_help(refused: TelegramRefused, retry: str) -> None:
    assert failed(refused).retry == retry
    assert failed(refused).retry_after == refused.retry_after
