"""Telegram: one message for an incident, with buttons to acknowledge and resolve it, updated in place.

A message shows the incident's state when it is rendered, and what was posted is stored with the result of the
delivery. Updates are deliveries like any other, so they are retried until they arrive. Presses of the buttons, and the
code by which the chat is found, are read by the engine (`engine/telegram.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from tocsin.domain import names
from tocsin.domain.deliveries import Delivered, Failed, Finish, Outcome, Retry, Suppressed
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.incidents import Notification, format_duration
from tocsin.integrations.base import NO_PERMIT, Field, IntegrationType, Permit, Transports
from tocsin.settings import Settings
from tocsin.storage.channels import posted, telegram
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.channels.posted import IncidentState, Message
from tocsin.storage.delivery.queue import Job
from tocsin.storage.notifying import blocked
from tocsin.storage.postgres.database import Tx
from tocsin.transports.telegram import ApiUser, Chat, Posted, R, Telegram, TelegramRefused, WebhookInfo

TOKEN, CHAT = "settings.bot_token", "settings.chat_id"
ACKNOWLEDGE, RESOLVE = "ack", "resolve"
"""What a button's `callback_data` starts with; a colon and the incident follow."""

OFF = "Telegram is not available in this process"

MAX_TEXT_LENGTH = 4096
"""Characters of a message, markup not counted. https://core.telegram.org/bots/api#sendmessage"""
MAX_LINK_LENGTH = 500
MAX_ID = 2**52
"""Identifiers of chats have at most 52 significant bits. https://core.telegram.org/bots/api#chat"""

_token = re.compile(r"[1-9][0-9]{0,19}:[A-Za-z0-9_-]{20,100}")
_public_name = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")

NOT_THERE = ("message to edit not found", "message can't be edited", "message_id_invalid", "message identifier")
"""What Telegram says where a message cannot be changed, ever; the chat itself may be fine."""
HOPELESS = ("can't parse entities", "is too long", "is empty", "button_data_invalid")


class TelegramIntegration(IntegrationType):
    type: ClassVar[str] = telegram.TELEGRAM
    label: ClassVar[str] = "Telegram"
    about: ClassVar[str] = "Writes to a chat by a bot of yours, with buttons, and updates its message."
    fields: ClassVar[tuple[Field, ...]] = (
        Field("bot_token", "Bot token", "password", "Write /newbot to @BotFather to make a bot; it answers with this."),
        Field(
            "chat_id", "Chat", hint="Leave it empty: the chat is found by a code that you send to the bot. Or give its "
            "number, or the @name of a public group or channel.", required=False,
        ),
    )  # fmt: skip
    for_people: ClassVar[bool] = True
    secret_settings: ClassVar[frozenset[str]] = frozenset({"bot_token"})
    internal_settings: ClassVar[frozenset[str]] = frozenset({"bot_id"})

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        known = stored or {}
        token, chat_id = _given_token(given.get("bot_token", known.get("bot_token"))), _given_chat(given.get("chat_id"))
        bot_id = token.partition(":")[0]
        if stored is None:
            return {"bot_token": token, "bot_id": bot_id, "chat_id": chat_id}
        if bot_id != stored["bot_id"]:
            raise invalid_field(TOKEN, "is of another bot: create a new integration for that one")
        if chat_id is not None and chat_id != stored["chat_id"]:
            raise invalid_field(CHAT, "cannot be changed: have a code made, and send it to the bot in the other chat")
        return {**stored, "bot_token": token}

    async def look_up(self, settings: Mapping[str, Any], configured: Settings) -> dict[str, Any]:
        """Who the bot is, and which chat is meant, if one was given. Raises `Refused` (422; 503)."""
        client, token = Telegram(configured.telegram_api_url), settings["bot_token"]
        try:
            bot = await _known(client, token, "getMe", {}, ApiUser, TOKEN)
            if str(bot.id) != settings["bot_id"]:
                raise invalid_field(TOKEN, "is not what it says it is: Telegram knows it as another bot")
            elsewhere = await _known(client, token, "getWebhookInfo", {}, WebhookInfo, TOKEN)
            if elsewhere.url:
                who = _host(elsewhere.url)
                raise invalid_field(TOKEN, f"is in use: {who} is told what is written to it; make one for Tocsin only")
            found = {**settings, "bot_username": bot.username}
            if settings["chat_id"] is None:
                return found
            chat = await _known(client, token, "getChat", {"chat_id": settings["chat_id"]}, Chat, CHAT)
            return {**found, **of_chat(chat)}
        finally:
            await client.close()

    def default_name(self, settings: Mapping[str, Any]) -> str:
        name = settings.get("chat_name") or settings.get("chat_id") or settings.get("bot_username") or "bot"
        return f"Telegram {name}"

    def unready(self, settings: Mapping[str, Any]) -> str | None:
        return blocked.WAITS_FOR_CHAT if settings.get("chat_id") is None else None

    def hears_acknowledgements(self, settings: Mapping[str, Any]) -> bool:
        return True

    def needs_permit(self, to: Sendable) -> bool:
        return True

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any]:
        incident = job.content.incident_id
        if incident is None:
            return {}
        return {
            "standing": await posted.incident_state(tx, incident),
            "messages": await posted.messages(tx, job.integration_id, incident),
        }

    def payload(self, notification: Notification) -> str:
        return str(render(notification, IncidentState(), "")["text"])

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if (reason := self.unready(settings)) is not None:
            return Suppressed(reason)
        if transports.telegram is None:
            return Suppressed(OFF)
        standing = permit.context.get("standing", IncidentState())
        body = render(notification, standing, transports.public_url)
        chat = _Conversation(transports.telegram, settings["bot_token"], settings["chat_id"])
        changed: list[Message] = []
        lost: list[Message] = []
        try:
            if notification.event in ("resolved", "acknowledged"):
                known = permit.context.get("messages", ())
                # Messages that already show it are updated again only for a redelivery.
                wrong = [message for message in known if not message.closed] or known
                changed, lost = await chat.update(wrong, body)
                if not changed and notification.event == "acknowledged":
                    return Suppressed("there is no message that could be updated")
            if not changed:
                changed = await chat.post(body)
        except TelegramRefused as refusal:
            return failed(refusal)
        return _delivered(chat, changed, lost, standing)

    async def after_attempt(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], outcome: Outcome, then: Retry | Finish
    ) -> None:
        """Store what was posted and what it shows now, in the transaction that records the delivery."""
        if not isinstance(outcome, Delivered) or outcome.receipt is None:
            return
        if outcome.receipt["moved_to"] is not None:
            await telegram.move(tx, job.integration_id, settings["chat_id"], outcome.receipt["moved_to"])
        await posted.record(tx, job, outcome.receipt)


# ---------------------------------------------------------------------------------------------------------- connecting


def of_chat(chat: Chat) -> dict[str, Any]:
    """The settings to store for a chat that was found."""
    return {"chat_id": chat.id, "chat_name": chat.shown}


def start_links(settings: Mapping[str, Any], code: str) -> tuple[str, str]:
    """Links that send the code: in a chat with the bot, and in a group that is chosen then.

    https://core.telegram.org/api/links#bot-links
    """
    bot = f"https://t.me/{settings.get('bot_username', '')}"
    return f"{bot}?start={code}", f"{bot}?startgroup={code}"


def _given_token(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise invalid_field(TOKEN, "is required: the token that @BotFather gave you for your bot")
    if not _token.fullmatch(value):
        raise invalid_field(TOKEN, "must be a bot's token as @BotFather gives it, such as 123456:ABC-DEF1234ghIkl")
    return value


def _given_chat(value: Any) -> int | str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,16}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < abs(value) < MAX_ID:
        return value
    if isinstance(value, str) and _public_name.fullmatch(value):
        return value
    raise invalid_field(CHAT, "must be a chat's number, such as -1001234567890, or the @name of a public chat")


async def _known(
    client: Telegram, token: str, method: str, arguments: Mapping[str, Any], kind: type[R], field: str
) -> R:
    """What Telegram says, or the refusal of the setting that it does not accept."""
    try:
        return await client.call(token, method, arguments, kind)
    except TelegramRefused as refusal:
        if refusal.status in (401, 404):
            raise invalid_field(TOKEN, "is not known to Telegram") from refusal
        if refusal.status in (400, 403):
            raise invalid_field(field, f"is not accepted by Telegram: {refusal.description}") from refusal
        message = f"Telegram cannot be asked about the bot at present; try again. {refusal}"
        raise Refused(503, "telegram_unavailable", message) from refusal


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "another program"
    except ValueError:
        return "another program"


# ------------------------------------------------------------------------------------------------------------- sending


@dataclass(slots=True)
class _Conversation:
    """One chat, as the bot may use it; `moved_to` is its new id, once Telegram has named one."""

    client: Telegram
    token: str
    chat_id: int
    moved_to: int | None = None

    async def post(self, body: Mapping[str, Any]) -> list[Message]:
        """The message, unless the answer ended before its name. https://core.telegram.org/bots/api#sendmessage"""
        try:
            answer = await self._send(self.moved_to or self.chat_id, body)
        except TelegramRefused as refusal:
            if refusal.moved_to is None:
                raise
            self.moved_to = refusal.moved_to  # a group that has become a supergroup
            answer = await self._send(self.moved_to, body)
        return [Message(str(self.moved_to or self.chat_id), answer)] if answer else []

    async def _send(self, chat_id: int, body: Mapping[str, Any]) -> str:
        try:
            arguments = {"chat_id": chat_id, **body}
            return str((await self.client.call(self.token, "sendMessage", arguments, Posted)).message_id)
        except TelegramRefused as refusal:
            if refusal.done:  # a retry would post a duplicate
                return ""
            raise

    async def update(
        self, messages: Sequence[Message], body: Mapping[str, Any]
    ) -> tuple[list[Message], list[Message]]:
        """Update messages. Returns those that were updated, and those that no longer exist.

        https://core.telegram.org/bots/api#editmessagetext
        """
        changed, lost = [], []
        for message in messages:
            arguments = {"chat_id": int(message.place), "message_id": int(message.name), **body}
            try:
                await self.client.call(self.token, "editMessageText", arguments, Posted)
                changed.append(message)
            except TelegramRefused as refusal:
                said = refusal.description.lower()
                if refusal.done or (refusal.status == 400 and "message is not modified" in said):
                    changed.append(message)
                elif refusal.moved_to is not None or (
                    refusal.status == 400 and any(words in said for words in NOT_THERE)
                ):
                    self.moved_to = refusal.moved_to or self.moved_to
                    lost.append(message)
                else:
                    raise
        return changed, lost


def _delivered(
    chat: _Conversation, written: list[Message], lost: list[Message], shown: IncidentState
) -> Delivered:
    where = ", ".join(f"{message.name} in chat {message.place}" for message in written)
    said = f"message {where}" if where else "message accepted; the answer ended before its number"
    return Delivered(200, said, {**posted.receipt(written, lost, shown), "moved_to": chat.moved_to})


def failed(refusal: TelegramRefused) -> Failed:
    """The outcome for an error of Telegram. https://core.telegram.org/bots/api#making-requests"""
    retry: Literal["scheduled", "twice", "never", "disable"] = "twice"
    what, said = str(refusal), refusal.description.lower()
    match refusal.status:
        case None | 408 | 409 | 429:
            retry = "scheduled"
        case status if status >= 500:
            retry = "scheduled"
        case 401 | 404:
            retry, what = "disable", f"{what}: Telegram does not know the bot's token any more"
        case 403:  # blocked, kicked, left, deactivated
            retry, what = "disable", f"{what}: the bot may not write to its chat any more"
        case 400 if "chat not found" in said:
            retry, what = "disable", f"{what}: the chat is not there any more, or the bot was never in it"
        case 400 if any(words in said for words in HOPELESS):
            retry = "never"
    return Failed(what, retry, refusal.status, refusal.response, refusal.retry_after)


# ------------------------------------------------------------------------------------------------------------- writing


def render(notification: Notification, incident_state: IncidentState, public_url: str) -> dict[str, Any]:
    """The message: what, where, since when, link and buttons; of a resolve, how long it took, and who resolved it."""
    if notification.event in ("test", "notice"):
        return _body(escaped(notification.message, MAX_TEXT_LENGTH - 10))
    ended = notification.closed_at or incident_state.closed_at
    what = escaped(names.line(notification.incident_type), 200)
    where = _link(notification.resource_url, escaped(names.line(notification.resource_name), 300))
    more = escaped(notification.message, 3000)
    link = _link(f"{public_url}/incidents/{notification.incident_id}", "Open the incident")
    since = f"since {_moment(notification.started_at)}"
    if ended is None:
        again = "Reminder: " if notification.event == "reminder" else ""
        who = incident_state.acknowledged_by
        sign, has = ("🟡", f" · {escaped(names.line(who), 200)} has it") if who else ("🔴", "")
        words = f"{sign} <b>{again}{what} on {where}</b>\n{more}\n\nOngoing {since}{has} · {link}"
        return _body(words, _buttons(notification.incident_id or "", acknowledged=bool(who)))
    took = f"Lasted {format_duration((ended - notification.started_at).total_seconds())}, {since}"
    by = incident_state.resolved_by
    by = f" · resolved by: {escaped(names.line(by), 200)}" if by else ""
    missed = "\nThe first notice could not be delivered." if notification.first_notice_failed else ""
    return _body(f"🟢 <b>Resolved: {what} on {where}</b>\n{more}{missed}\n\n{took}{by} · {link}")


def escaped(text: str, room: int) -> str:
    """Text in which Telegram finds no markup, of at most `room` characters as it is read, which it counts in UTF-16.

    https://core.telegram.org/bots/api#html-style, https://core.telegram.org/api/entities#entity-length
    """
    fitting = text.encode("utf-16-le", "replace")[: 2 * room].decode("utf-16-le", "ignore")
    return _without_markup(names.cut(text, len(fitting)))


def _without_markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _link(url: str, words: str) -> str:
    """`words`, leading to `url` if a browser could open that."""
    if urlsplit(url).scheme not in ("http", "https") or len(url) > MAX_LINK_LENGTH or not url.isprintable():
        return words
    return f'<a href="{_without_markup(url)}">{words}</a>'


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %b %Y %H:%M UTC")


def _body(text: str, keyboard: Sequence[Sequence[Mapping[str, str]]] = ()) -> dict[str, Any]:
    """Without `reply_markup` an update takes the buttons away."""
    body: dict[str, Any] = {"text": text, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}
    return {**body, "reply_markup": {"inline_keyboard": keyboard}} if keyboard else body


def _buttons(incident: str, *, acknowledged: bool) -> list[list[dict[str, str]]]:
    """https://core.telegram.org/bots/api#inlinekeyboardbutton: `callback_data` has at most 64 bytes."""
    kinds = ((RESOLVE, "Resolve"),) if acknowledged else ((ACKNOWLEDGE, "Acknowledge"), (RESOLVE, "Resolve"))
    return [[{"text": text, "callback_data": f"{name}:{incident}"} for name, text in kinds]]
