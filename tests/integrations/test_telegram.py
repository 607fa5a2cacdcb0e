"""Telegram from an incident to its message and back, by real processes: posting, pressing, updating."""

from __future__ import annotations

import asyncio

import httpx

from tests.service import Service
from tests.slack_scene import ended, incident, resolved
from tests.telegram_chats import Bot, Chat
from tests.telegram_scene import (
    PUBLIC_URL,
    _telegram,
    _telegram_service,
    bot,
    chat,
    connected,
    message,
    press,
    service,
    telegram,
    trial,
)
from tests.telegram_server import BEN, TelegramServer
from tests.waiting import until

__all__ = ["_telegram", "_telegram_service", "bot", "chat", "service", "telegram"]


async def test_a_message_says_what_where_since_when_with_a_link_and_buttons(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client, message='CPU at 97 % & <rising> "fast"')
    posted = await message(telegram, chat, begun["incident_type"])
    for words in (begun["incident_type"], begun["monitorable_name"], 'CPU at 97 % & <rising> "fast"', "Ongoing since "):
        assert words in posted.text
    assert f'<a href="{PUBLIC_URL}/incidents/{begun["uuid"]}">' in posted.html
    assert posted.html.startswith("🔴 <b>")
    assert list(posted.buttons) == ["Acknowledge", "Resolve"]


async def test_the_message_is_updated_in_place_when_the_incident_ends_by_the_api(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    await client.post(f"/api/v1/incidents/{begun['uuid']}/resolve")
    assert await message(telegram, chat, "Resolved") is posted
    assert "Lasted " in posted.text
    assert "resolved by: " in posted.text
    assert not posted.buttons
    assert len(telegram.in_(chat)) == 2  # the announcement and this one


async def test_a_button_resolves_the_incident_and_the_message_says_by_whom(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    assert await press(telegram, posted, "Resolve", person=BEN) == "Resolved."
    await resolved(client, begun["uuid"])
    assert await message(telegram, chat, "Resolved") is posted
    assert "resolved by: Ben in Telegram" in posted.text


async def test_a_button_acknowledges_the_incident_and_the_message_says_who_has_it(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    assert (await press(telegram, posted, "Acknowledge")).startswith("You have it")
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["acknowledged_by"] == "Ann in Telegram"
    assert await message(telegram, chat, "Ann in Telegram has it") is posted
    assert list(posted.buttons) == ["Resolve"]
    data = {"data": f"ack:{begun['uuid']}"}
    assert await press(telegram, posted, "Resolve", person=BEN, **data) == "Ann in Telegram has it already."
    assert await press(telegram, posted, "Resolve", person=BEN) == "Resolved."
    assert await message(telegram, chat, "Resolved") is posted
    assert (await press(telegram, posted, "", **data)).startswith("Resolved already: by Ben in Telegram")


async def test_an_acknowledgement_that_is_taken_back_is_taken_out_of_the_message(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    assert (await client.post(f"/api/v1/incidents/{begun['uuid']}/acknowledge")).status_code == 200
    assert await message(telegram, chat, " has it") is posted
    assert (await client.post(f"/api/v1/incidents/{begun['uuid']}/unacknowledge")).status_code == 200

    async def updated() -> bool:
        return list(posted.buttons) == ["Acknowledge", "Resolve"] and " has it" not in posted.text

    await until(updated, what="the message to say that nobody has it")


async def test_who_takes_an_incident_while_it_is_being_posted_is_in_the_message_soon(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    telegram.answers_go.clear()
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    assert (await client.post(f"/api/v1/incidents/{begun['uuid']}/acknowledge")).status_code == 200
    assert (await ended(client, uuid, "acknowledged"))["status"] == "suppressed"
    telegram.answers_go.set()
    assert await message(telegram, chat, " has it") is posted


async def test_two_who_press_at_once_are_one_resolve_and_the_second_is_told_who_was_first(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    said = await asyncio.gather(press(telegram, posted, "Resolve"), press(telegram, posted, "Resolve", person=BEN))
    assert said[0] == "Resolved."
    assert said[1].startswith("Resolved already: by Ann in Telegram, ")
    await message(telegram, chat, "Resolved")


async def test_a_press_in_a_chat_that_is_not_the_integration_s_changes_nothing(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    elsewhere = {**posted.shown, "chat": telegram.chat("Eve").shown}
    assert "no longer connected" in await press(telegram, posted, "Resolve", message=elsewhere)
    assert "no longer" in await press(telegram, posted, "Resolve", data="resolve:INC0")
    assert "no longer" in await press(telegram, posted, "Resolve", data="\x00")
    assert "no longer" in await press(telegram, posted, "Resolve", data="")
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["closed_at"] is None


async def test_a_press_that_comes_by_another_bot_changes_nothing(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    other = telegram.bot()
    await connected(client, telegram, other, telegram.chat("Another"))
    assert "no longer connected" in await press(telegram, posted, "Resolve", bot=other)
    assert (await client.get(f"/api/v1/incidents/{begun['uuid']}")).json()["closed_at"] is None


async def test_updates_of_no_documented_form_are_skipped_and_what_follows_counts(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    await connected(client, telegram, bot, chat)
    begun = await incident(client)
    posted = await message(telegram, chat, begun["incident_type"])
    telegram._update(bot, {"message": {"message_id": "one", "chat": 5}})
    telegram._update(bot, {"callback_query": []})
    telegram._update(bot, {"message": {"message_id": 1, "chat": chat.shown}})
    telegram.write(bot, chat, "\x00 text of nobody's business")
    assert await press(telegram, posted, "Resolve") == "Resolved."


async def test_the_test_button_writes_to_the_chat(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    assert (await trial(client, uuid))["status"] == "delivered"
    await message(telegram, chat, "This is a test notification from Tocsin.")


async def test_one_bot_may_serve_several_chats_and_projects(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat, service: Service
) -> None:
    group = telegram.chat("Operations", "supergroup")
    await connected(client, telegram, bot, chat)
    await connected(client, telegram, bot, group)
    begun = await incident(client)
    first, second = [await message(telegram, each, begun["incident_type"]) for each in (chat, group)]
    assert await press(telegram, second, "Resolve") == "Resolved."
    for each in (chat, group):
        await message(telegram, each, "Resolved")
    assert not first.buttons
    assert not second.buttons
    assert telegram.most_polls <= 1


async def test_a_message_longer_than_a_chat_takes_is_cut_by_us(
    client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat
) -> None:
    uuid = await connected(client, telegram, bot, chat)
    await incident(client, message="<&>" * 2000)
    assert (await ended(client, uuid, "opened"))["status"] == "delivered"
