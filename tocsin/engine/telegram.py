"""Reads what is written to the bots and pressed in their messages: the codes by which chats are found, and buttons.

By long polling, because it needs no public address: most installations have none. A bot is read by one engine at a
time, with one request after another, and each update is acted upon once.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import asyncpg
import structlog

from tocsin.actions import telegram as actions
from tocsin.actions.base import system
from tocsin.actions.telegram import ButtonPress
from tocsin.domain import names
from tocsin.domain.incidents import Incident
from tocsin.storage.channels import telegram as stored
from tocsin.storage.channels.posted import Message
from tocsin.storage.channels.telegram import Bot
from tocsin.storage.postgres.database import UNAVAILABLE, Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.telegram import Press, Telegram, TelegramRefused, Update, Written

log = structlog.get_logger(__name__)

BOTS = 50
"""Bots that one engine reads at a time; if there are more, they take turns."""
PAUSE = 1.0
"""Seconds between two looks for bots that are due."""
QUICK = 0.5
"""An answer with nothing in it that comes sooner than this was not waited for."""
REVOKED_PAUSE, CONFLICT_PAUSE, FAILURE_PAUSE, MAX_PAUSE = 60.0, 30.0, 10.0, 3600.0
REPLIES = 5
"""Hints to people in one batch of updates; presses are all answered."""

MAX_ANSWER_LENGTH = 200
"""https://core.telegram.org/bots/api#answercallbackquery"""
MAX_CODE_TEXT_LENGTH = 100

UNKNOWN_CODE = (
    "This code is not known to me, or is older than 10 minutes. Have a new one made on the page of the integration, "
    "and send me /start with it."
)

_code = re.compile(rf"(?:/start(?:@\w+)?\s+)?([A-Za-z2-7]{{{stored.CODE_LENGTH}}})")


class _LeaseLost(Exception):
    """Another engine reads the bot meanwhile."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """A call of a method that tells somebody what became of what they did."""

    method: str
    arguments: Mapping[str, Any]


async def run(
    pool: asyncpg.Pool, vault: Vault, telegram: Telegram, public_url: str, stop: asyncio.Event,
    number: Callable[[], int | None],
) -> None:  # fmt: skip
    """Read the bots until `stop`. Any number of engines may do so at once; `number` says which this one is."""
    running: dict[str, asyncio.Task[None]] = {}
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            engine = number()
            if engine is not None and len(running) < BOTS:
                async with pool.acquire() as tx, tx.transaction():
                    due = await stored.claim(tx, vault, engine, BOTS - len(running), but=running)
                reader = _Reader(pool, vault, telegram, public_url, engine)
                for bot in due:
                    running[bot.bot_id] = asyncio.create_task(reader.read(bot))
            await asyncio.wait({*running.values(), stopped}, timeout=PAUSE, return_when=asyncio.FIRST_COMPLETED)
            for bot_id in [bot_id for bot_id, task in running.items() if task.done()]:
                await running.pop(bot_id)
    finally:
        for task in (*running.values(), stopped):
            task.cancel()
        await asyncio.gather(*running.values(), stopped, return_exceptions=True)
        with contextlib.suppress(*UNAVAILABLE):
            if (engine := number()) is not None:
                async with pool.acquire() as tx:
                    await stored.return_all(tx, engine)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads bots for one engine, which they are leased to."""

    pool: asyncpg.Pool
    vault: Vault
    telegram: Telegram
    public_url: str
    engine: int

    async def read(self, bot: Bot) -> None:
        """One request for updates, and what follows from them."""
        loop = asyncio.get_running_loop()
        began, problem = loop.time(), None
        try:
            token, updates = await self._updates(bot)
            await self._act_on(bot, token, updates)
            pause = 0.0 if updates or loop.time() > began + QUICK else PAUSE
        except TelegramRefused as refusal:
            pause, problem = _pause(refusal), str(refusal)
        except _LeaseLost:
            return
        except UNAVAILABLE:
            raise
        except Exception:
            log.exception("What was written to a bot could not be read", bot=bot.bot_id)
            pause = FAILURE_PAUSE
        async with self.pool.acquire() as tx:
            await stored.release(tx, self.engine, bot.bot_id, pause, problem)

    async def _updates(self, bot: Bot) -> tuple[str, list[Update]]:
        """By the first token that Telegram accepts: others of the same bot have been revoked."""
        refused = TelegramRefused("The bot's token cannot be read")
        for token in bot.tokens:
            try:
                return token, await self.telegram.updates(token, bot.next_update)
            except TelegramRefused as refusal:
                refused = refusal
                if refusal.status not in (401, 404):
                    break
        raise refused

    async def _act_on(self, bot: Bot, token: str, updates: list[Update]) -> None:
        answers: list[_Reply] = []
        hints: list[_Reply] = []
        for update in updates:
            reply = await self._act(bot, update)
            if reply is not None:
                (answers if reply.method == "answerCallbackQuery" else hints).append(reply)
        await asyncio.gather(*(self._reply(token, reply) for reply in (*answers, *hints[:REPLIES])))

    async def _act(self, bot: Bot, update: Update) -> _Reply | None:
        """Act upon an update in the transaction that counts it as done. One that cannot be is skipped."""
        try:
            async with self.pool.acquire() as tx, tx.transaction():
                await self._advance(tx, bot, update)
                if update.callback_query is not None:
                    return await self._press(tx, bot, update.callback_query)
                written = update.message or update.channel_post
                return await self._written(tx, bot, written) if written is not None else None
        except _LeaseLost:
            raise
        except UNAVAILABLE:
            raise
        except Exception:
            log.exception("An update of a bot could not be acted upon; it is skipped", bot=bot.bot_id)
        async with self.pool.acquire() as tx:
            await self._advance(tx, bot, update)
        return None

    async def _advance(self, tx: Tx, bot: Bot, update: Update) -> None:
        if not await stored.advance(tx, self.engine, bot.bot_id, update.update_id + 1):
            raise _LeaseLost

    async def _press(self, tx: Tx, bot: Bot, press: Press) -> _Reply | None:
        if press.message is None:
            return None
        message = Message(str(press.message.chat.id), str(press.message.message_id))
        pressed = ButtonPress(bot.bot_id, message, press.sender.shown, press.data)
        found = await actions.press(tx, system(), self.vault, pressed)
        words = _was_first(found) if isinstance(found, Incident) else found
        text = names.cut(words, MAX_ANSWER_LENGTH)
        return _Reply("answerCallbackQuery", {"callback_query_id": press.id, "text": text})

    async def _written(self, tx: Tx, bot: Bot, written: Written) -> _Reply | None:
        """A code connects the chat in which it was written. Other texts are none of our business."""
        text = written.text[: MAX_CODE_TEXT_LENGTH + 1].strip()
        if (code := _code.fullmatch(text)) is not None:
            found = await stored.redeem(tx, self.vault, bot.bot_id, code[1])
            if found is not None:
                by = f"{(written.sender or written.chat).shown} in Telegram"
                await actions.connect(
                    tx, system(found.project_id, by), self.vault, found, written.chat, self.public_url
                )
                return None
        elif not text.startswith("/start"):
            return None
        if written.chat.type != "private":
            return None
        return _Reply("sendMessage", {"chat_id": written.chat.id, "text": UNKNOWN_CODE})

    async def _reply(self, token: str, reply: _Reply) -> None:
        try:
            await self.telegram.call(token, reply.method, reply.arguments, object)
        except TelegramRefused as refusal:
            log.warning("could not reply to somebody in Telegram", error=str(refusal))


def _pause(refusal: TelegramRefused) -> float:
    match refusal.status:
        case 401 | 404:
            return REVOKED_PAUSE
        case 409:  # something else reads the bot, or is told what is written to it
            return CONFLICT_PAUSE
        case 429:
            return min(refusal.retry_after or FAILURE_PAUSE, MAX_PAUSE)
    return FAILURE_PAUSE


def _was_first(incident: Incident) -> str:
    by = names.cut(names.line(incident.resolved_by or "somebody else"), 100)
    at = incident.closed_at or incident.updated_at
    return f"Resolved already: by {by}, {at.astimezone(UTC):%d %b %Y %H:%M UTC}"
