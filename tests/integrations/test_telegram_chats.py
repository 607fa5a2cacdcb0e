"""Making a Telegram integration: its bot is asked who it is, its chat is found by a code."""

from __future__ import annotations

import re

import asyncpg
import httpx
import pytest

from tests.service import Service
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
    service,
    settings,
    telegram,
    trial,
    wanted,
)
from tests.telegram_server import TelegramServer
from tests.waiting import until

__all__ = ["_telegram", "_telegram_service", "bot", "chat", "service", "telegram"]


async def test_it_waits_for_its_chat_until_its_code_is_sent_to_the_bot(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await made(client, bot)
    assert await settings(client, uuid) == {"bot_token": "********", "bot_username": bot.username, "chat_id": None}
    early = await trial(client, uuid)
    assert early["status"] == "suppressed"
    assert "it waits for its chat" in early["reason"]
    found = await code(client, uuid)
    assert re.fullmatch("[A-Z2-7]{20}", found["code"])
    assert found["text"] == f"/start {found['code']}"
    assert found["url"] == f"https://t.me/{bot.username}?start={found['code']}"
    assert found["group_url"] == f"https://t.me/{bot.username}?startgroup={found['code']}"
    assert found["problem"] is None
    telegram.write(bot, chat, found["text"])
    await message(telegram, chat, "This chat is connected to the project")
    shown = (await client.get(f"/api/v1/integrations/{uuid}")).json()
    assert shown["settings"]["chat_id"] == chat.id
    assert shown["settings"]["chat_name"] == "Ann"
    assert shown["name"] == "Telegram Ann"
    assert (await trial(client, uuid))["status"] == "delivered"


async def test_a_group_a_channel_and_a_code_typed_in_small_letters_are_found_too(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot
) -> None:
    uuid = await made(client, bot)
    for place, text in (
        (telegram.chat("Operations", "supergroup"), f"/start@{bot.username} {{}}"),
        (telegram.chat("Outages", "channel"), "{}"),
        (telegram.chat("Small", "group"), " /start  {} "),
    ):
        given = (await code(client, uuid))["code"]
        telegram.write(bot, place, text.format(given.lower() if place.title == "Small" else given))
        await message(telegram, place, "This chat is connected")
        assert (await settings(client, uuid))["chat_id"] == place.id


async def test_a_code_is_good_once_and_a_newer_one_voids_it(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await made(client, bot)
    old, new = (await code(client, uuid))["text"], (await code(client, uuid))["text"]
    stranger = telegram.chat("Eve")
    telegram.write(bot, stranger, old)
    await message(telegram, stranger, "This code is not known")
    telegram.write(bot, chat, new)
    await message(telegram, chat, "This chat is connected")
    telegram.write(bot, stranger, new)
    await message(telegram, stranger, "This code is not known", 2)
    assert (await settings(client, uuid))["chat_id"] == chat.id


async def test_a_code_is_void_after_ten_minutes_and_after_a_hundred_wrong_ones(
    client: httpx.AsyncClient, telegram: TelegramServer, service: Service, bot: Bot, chat: Chat
) -> None:
    uuid = await made(client, bot)
    for change in ("expires_at = now()", "tries_left = 1"):
        given = (await code(client, uuid))["text"]
        connection = await asyncpg.connect(service.database)
        try:
            await connection.execute(f"UPDATE telegram_codes SET {change} WHERE bot_id = $1", str(bot.id))
        finally:
            await connection.close()
        before = len(telegram.in_(chat))
        telegram.write(bot, chat, "/start " + "A" * 20)
        await message(telegram, chat, "This code is not known", before + 1)
        telegram.write(bot, chat, given)
        await message(telegram, chat, "This code is not known", before + 2)
    assert (await settings(client, uuid))["chat_id"] is None


async def test_a_group_is_not_bothered_with_wrong_codes_or_other_talk(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await made(client, bot)
    group = telegram.chat("Operations", "group")
    for text in ("/start", "/start nonsense", "A" * 20, "hello", "/stop"):
        telegram.write(bot, group, text)
    telegram.write(bot, chat, (await code(client, uuid))["text"])
    await message(telegram, chat, "This chat is connected")
    assert not telegram.in_(group)


async def test_another_project_s_code_connects_that_project_only(
    client: httpx.AsyncClient, telegram: TelegramServer, service: Service, bot: Bot, chat: Chat
) -> None:
    mine = await made(client, bot)
    service.project = await service.new_project()
    async with service.client() as other:
        theirs = await made(other, bot)
        telegram.write(bot, chat, (await code(other, theirs))["text"])
        await message(telegram, chat, "This chat is connected")
        assert (await settings(other, theirs))["chat_id"] == chat.id
        assert (await other.post(f"/api/v1/integrations/{mine}/telegram_code")).status_code == 404
    assert (await settings(client, mine))["chat_id"] is None


async def test_the_chat_may_be_given_by_its_number_or_its_public_name(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot
) -> None:
    channel = telegram.chat("Outages", "channel", "example_outages")
    for given in (channel.id, str(channel.id), "@example_outages"):
        uuid = await made(client, bot, chat_id=given)
        assert (await settings(client, uuid))["chat_id"] == channel.id
        assert (await trial(client, uuid))["status"] == "delivered"


@pytest.mark.parametrize("given", [0, 2**52, -(2**52), 1.5, True, [], {}, "@", "@a b", "12a", "1" * 17, "\x00"])
async def test_a_chat_that_cannot_be_one_is_refused(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, given: object
) -> None:
    answer = await client.post("/api/v1/integrations", json=wanted(bot, chat_id=given))
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["details"]] == ["settings.chat_id"]


async def test_a_bot_that_telegram_does_not_know_is_refused_and_so_is_a_chat_that_is_not_there(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot
) -> None:
    bot.revoked = True
    refused = await client.post("/api/v1/integrations", json=wanted(bot))
    assert (refused.status_code, refused.json()["details"]) == (
        422, [{"field": "settings.bot_token", "message": "is not known to Telegram"}],
    )  # fmt: skip
    refused = await client.post("/api/v1/integrations", json=wanted(telegram.bot(), chat_id=-5))
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "settings.chat_id")
    assert "chat not found" in refused.text
    telegram.fail("getMe", 502)
    refused = await client.post("/api/v1/integrations", json=wanted(telegram.bot()))
    assert (refused.status_code, refused.json()["error"]) == (503, "telegram_unavailable")
    assert (await client.get("/api/v1/integrations")).json() == []


async def test_a_bot_that_another_program_uses_is_refused_and_one_that_it_takes_later_is_said_to_be(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    bot.webhook = "https://other.example.com/hook"
    refused = await client.post("/api/v1/integrations", json=wanted(bot))
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "settings.bot_token")
    assert "other.example.com" in refused.text
    bot.webhook = ""
    uuid = await connected(client, telegram, bot, chat)
    bot.webhook = "https://other.example.com/hook"

    async def look() -> bool:
        return "webhook is active" in ((await code(client, uuid))["problem"] or "")

    await until(look, what="it to be said that the bot is in use")
    assert (await trial(client, uuid))["status"] == "delivered"


async def test_a_new_token_of_the_same_bot_is_taken_and_another_bot_s_is_not(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    telegram.renew(bot)
    for changes, status in (
        ({"bot_token": telegram.bot().token}, 422), ({"chat_id": 5}, 422), ({"bot_token": bot.token}, 200),
        ({"bot_token": "********", "chat_id": chat.id}, 200),
    ):  # fmt: skip
        changed = await client.patch(f"/api/v1/integrations/{uuid}", json={"integration": {"settings": changes}})
        assert changed.status_code == status, changed.text
    assert (await trial(client, uuid))["status"] == "delivered"
    assert (await settings(client, uuid))["chat_id"] == chat.id


async def test_the_token_is_encrypted_and_the_code_is_not_in_the_database(
    client: httpx.AsyncClient, telegram: TelegramServer, service: Service, bot: Bot
) -> None:
    uuid = await made(client, bot)
    given = (await code(client, uuid))["code"]
    connection = await asyncpg.connect(service.database)
    try:
        rows = str([
            tuple(row) for table in ("integrations", "telegram_codes", "telegram_bots", "audit")
            for row in await connection.fetch(f"SELECT * FROM {table}")
        ])  # fmt: skip
    finally:
        await connection.close()
    assert bot.username in rows
    assert bot.token.partition(":")[2] not in rows
    assert given not in rows


async def test_who_connected_which_chat_is_in_the_audit_log(
    client: httpx.AsyncClient, telegram: TelegramServer, service: Service, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    connection = await asyncpg.connect(service.database)
    try:
        said = await connection.fetch("SELECT action, who, subject FROM audit ORDER BY id DESC LIMIT 20")
    finally:
        await connection.close()
    assert ("connected chat", "Ann in Telegram", "Telegram Ann") in [tuple(row) for row in said]
