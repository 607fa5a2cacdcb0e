"""Telegram's Bot API: one call of a method, by the token of a bot. https://core.telegram.org/bots/api#making-requests

The token is part of the address: nothing that comes back from here, errors included, shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tocsin.domain import names
from tocsin.domain.deliveries import ATTEMPT_TIMEOUT, RESPONSE_LIMIT
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Answer, Http, Unreachable

ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are read: it may be twenty long messages."""

MAX_NAME_LENGTH = 100
POLL_SECONDS = 7
"""How long Telegram keeps a question for updates open: an answer is in time for that to any other call."""
UPDATES = 20
READ = ["message", "channel_post", "callback_query"]

MASK = "…"

R = TypeVar("R")


class Parameters(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#responseparameters"""

    migrate_to_chat_id: int | None = None
    retry_after: float | None = None


class _Answer(msgspec.Struct, frozen=True, gc=False):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    description: str = ""
    parameters: Parameters | None = None


class ApiUser(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#user"""

    id: int
    first_name: str = ""
    last_name: str = ""
    username: str = ""

    @property
    def shown(self) -> str:
        return _line(f"{self.first_name} {self.last_name}") or _line(self.username) or str(self.id)


class Chat(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#chat"""

    id: int
    type: str = ""
    title: str = ""
    first_name: str = ""
    last_name: str = ""
    username: str = ""

    @property
    def shown(self) -> str:
        """Its name for people: a group's title, or a person's name."""
        return (
            _line(self.title) or _line(f"{self.first_name} {self.last_name}") or _line(self.username) or str(self.id)
        )


class WebhookInfo(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#webhookinfo"""

    url: str = ""


class Posted(msgspec.Struct, frozen=True, gc=False):
    """A message, as far as it concerns whoever posted it. https://core.telegram.org/bots/api#message"""

    message_id: int


class Written(msgspec.Struct, frozen=True, gc=False):
    """A message that somebody wrote, or one with a button that they pressed."""

    message_id: int
    chat: Chat
    text: str = ""
    sender: ApiUser | None = msgspec.field(default=None, name="from")


class Press(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#callbackquery"""

    id: str
    sender: ApiUser = msgspec.field(name="from")
    message: Written | None = None
    data: str = ""


class Update(msgspec.Struct, frozen=True, gc=False):
    """https://core.telegram.org/bots/api#update"""

    update_id: int
    message: Written | None = None
    channel_post: Written | None = None
    callback_query: Press | None = None


class _Numbered(msgspec.Struct, frozen=True, gc=False):
    update_id: int


class TelegramRefused(Exception):
    """Telegram refused or failed. `status` is None if it did not answer; `description` is what it said.

    `retry_after` is in seconds, if it asked for a wait; `moved_to` is the chat's new id, if it has one; `response` is
    the start of its answer. `done`: it has done what was asked, but its answer could not be read to the end.
    """

    def __init__(
        self, message: str, status: int | None = None, description: str = "", parameters: Parameters | None = None,
        response: str = "", *, done: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.description = description
        self.retry_after = parameters.retry_after if parameters else None
        self.moved_to = parameters.migrate_to_chat_id if parameters else None
        self.response = response
        self.done = done


class Telegram:
    """For one event loop. The host is the operator's own choice: the guard on projects' addresses is not for it."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._http = Http(Guard(EVERYWHERE), keep=ANSWER_LIMIT, patience=ATTEMPT_TIMEOUT)

    async def call(self, token: str, method: str, arguments: Mapping[str, Any], kind: type[R]) -> R:
        """One call; returns its result. Raises `TelegramRefused`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        url = f"{self._api_url}/bot{token}/{method}"
        try:
            answer = await self._http.post(url, json.dumps(arguments).encode(), headers)
        except Unreachable as error:
            raise TelegramRefused(f"Telegram: {error}") from error
        said = _said(answer)
        if answer.status == 200 and said is not None and said.ok:
            try:
                return msgspec.json.decode(said.result, type=kind)
            except (msgspec.DecodeError, RecursionError) as error:
                what = f"Telegram's answer to {method} is not of its documented form"
                raise TelegramRefused(what, answer.status, done=True) from error
        raise _refused(token, method, answer, said)

    async def updates(self, token: str, next_update: int) -> list[Update]:
        """What was written to the bot and pressed since, once there is any; none after some seconds without.

        One that is not of its documented form comes as an update with nothing in it. Raises `TelegramRefused`.
        https://core.telegram.org/bots/api#getupdates
        """
        arguments = {"offset": next_update, "limit": UPDATES, "timeout": POLL_SECONDS, "allowed_updates": READ}
        try:
            found = await self.call(token, "getUpdates", arguments, list[msgspec.Raw])
        except TelegramRefused as refusal:
            if not refusal.done:
                raise
            found = await self.call(token, "getUpdates", {**arguments, "limit": 1}, list[msgspec.Raw])
        try:
            return [_update(each) for each in found]
        except msgspec.DecodeError as error:
            raise TelegramRefused("Telegram's updates are not of their documented form", 200) from error

    async def close(self) -> None:
        await self._http.close()


def _update(given: msgspec.Raw) -> Update:
    try:
        return msgspec.json.decode(given, type=Update)
    except msgspec.DecodeError:
        return Update(msgspec.json.decode(given, type=_Numbered).update_id)


def _said(answer: Answer) -> _Answer | None:
    try:
        return msgspec.json.decode(answer.text.encode(), type=_Answer)
    except (msgspec.DecodeError, RecursionError):
        return None


def _refused(token: str, method: str, answer: Answer, said: _Answer | None) -> TelegramRefused:
    secret = token.partition(":")[2]
    description = (said.description if said else "").replace(secret, MASK)[:300]
    what = f"said {answer.status} {description}" if description else f"answered {answer.status}"
    return TelegramRefused(
        f"Telegram {what} to {method}", answer.status, description, said.parameters if said else None,
        answer.text.replace(secret, MASK)[:RESPONSE_LIMIT], done=answer.status == 200 and not answer.complete,
    )  # fmt: skip


def _line(text: str) -> str:
    """A name that somebody chose, as one line that is not too long."""
    return names.cut(names.line(text), MAX_NAME_LENGTH)
