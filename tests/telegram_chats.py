"""Telegram's bots, chats and messages as its far end keeps them, and how it reads the text of a message."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

TAGS = {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "a", "code", "pre", "blockquote", "tg-spoiler"}
"""https://core.telegram.org/bots/api#html-style"""
_entity = re.compile(r"&(?:lt|gt|amp|quot|#[0-9]+|#x[0-9a-fA-F]+);")


@dataclass
class Bot:
    """One bot. `updates` are those that were not confirmed yet, `answers` what pressers were told."""

    token: str
    username: str
    webhook: str = ""
    revoked: bool = False
    updates: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> int:
        return int(self.token.partition(":")[0])


@dataclass
class Chat:
    """One chat. `trouble` is what calls that concern it are refused with: status and description."""

    id: int
    type: str
    title: str
    username: str = ""
    trouble: tuple[int, str] | None = None
    moved_to: int | None = None

    @property
    def shown(self) -> dict[str, Any]:
        name = {"first_name": self.title} if self.type == "private" else {"title": self.title}
        return {"id": self.id, "type": self.type, **name, **({"username": self.username} if self.username else {})}


@dataclass
class Posted:
    """One message of a bot as it stands, and how often it was written. `text` is what is read, `html` what was sent."""

    bot: Bot
    chat: Chat
    id: int
    html: str
    text: str
    keyboard: list[list[dict[str, Any]]]
    writes: int = 1

    @property
    def buttons(self) -> dict[str, str]:
        """What each sends, by what is written on it."""
        return {button["text"]: button["callback_data"] for row in self.keyboard for button in row}

    @property
    def shown(self) -> dict[str, Any]:
        sender = {"id": self.bot.id, "is_bot": True, "first_name": "Tocsin", "username": self.bot.username}
        return {
            "message_id": self.id, "from": sender, "chat": self.chat.shown, "date": 1700000000, "text": self.text,
            "reply_markup": {"inline_keyboard": self.keyboard},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who uses Telegram."""

    id: int
    first_name: str
    username: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        more = {"username": self.username} if self.username else {}
        return {"id": self.id, "is_bot": False, "first_name": self.first_name, "language_code": "en", **more}


class Misread(Exception):
    """The text cannot be read."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            raise Misread(f'Unsupported start tag "{tag}"')
        if [name for name, _ in attrs] != (["href"] if tag == "a" else []):
            raise Misread(f'Unexpected attributes of "{tag}"')
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise Misread(f'Unmatched end tag "{tag}"')

    def handle_data(self, data: str) -> None:
        if "<" in data or ">" in data or "&" in data:
            raise Misread("Unescaped character")
        self.parts.append(data)

    def handle_entityref(self, name: str) -> None:
        self.parts.append(html.unescape(f"&{name};"))

    def handle_charref(self, name: str) -> None:
        self.parts.append(html.unescape(f"&#{name};"))

    def handle_comment(self, data: str) -> None:
        raise Misread("Unsupported start tag")

    handle_decl = handle_pi = unknown_decl = handle_comment


def read(text: str) -> str:
    """What is read of a text in HTML, without its markup. Raises `Misread`."""
    if "&" in _entity.sub("", text):
        raise Misread("Unescaped or unsupported entity")
    reader = _Reader()
    reader.feed(text)
    reader.close()
    if reader.open:
        raise Misread(f'Can\'t find end tag corresponding to start tag "{reader.open[-1]}"')
    return "".join(reader.parts)


def keyboard_complaint(markup: Any) -> str | None:
    """What is wrong with an inline keyboard. https://core.telegram.org/bots/api#inlinekeyboardmarkup"""
    if not isinstance(markup, dict) or markup.keys() != {"inline_keyboard"}:
        return "object expected as reply markup"
    for row in markup["inline_keyboard"]:
        for button in row:
            if button.keys() != {"text", "callback_data"} or not button["text"]:
                return "Text buttons are unallowed in the inline keyboard"
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                return "BUTTON_DATA_INVALID"
    return None
