"""A far end that speaks those of the Bot API's methods that we use as they are documented, and refuses whatever is not.

https://core.telegram.org/bots/api (getMe, getWebhookInfo, getChat, getUpdates, sendMessage, editMessageText,
answerCallbackQuery); what it says when it refuses is what https://github.com/tdlib/telegram-bot-api says.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.telegram_chats import Bot, Chat, Misread, Person, Posted, keyboard_complaint, read
from tests.waiting import poll

ANN, BEN = Person(1001, "Ann"), Person(1002, "Ben", "ben_b")
SEND = {"chat_id", "text", "parse_mode", "link_preview_options", "reply_markup"}

Said = tuple[int, Any, Mapping[str, Any]]
"""An answer: status, result or description, more fields."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next call of a method gets in the place of its answer. With `done`, it is carried out all the same."""

    method: str
    status: int
    body: bytes
    headers: Mapping[str, str]
    done: bool = False


class TelegramServer:
    """The server, on threads of its own. `mistakes` is what was asked wrongly."""

    def __init__(self) -> None:
        self.messages: list[Posted] = []
        self.mistakes: list[str] = []
        self.calls: list[str] = []
        self.faults: deque[Fault] = deque()
        self.answers_go = threading.Event()
        """While it is clear, calls of sendMessage are carried out, but not answered."""
        self.answers_go.set()
        self.polls = 0
        self.most_polls = 0
        """How many asked for updates of one bot at once, at most."""
        self._bots: dict[str, Bot] = {}
        self._chats: dict[int, Chat] = {}
        self._queries: set[str] = set()
        self._polling: dict[int, object] = {}
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environ(self) -> dict[str, str]:
        """The setting that leads here."""
        return {"TOCSIN_TELEGRAM_API_URL": self.url}

    def close(self) -> None:
        self.answers_go.set()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # ---------------------------------------------------------------------------------------- what a person does

    def bot(self) -> Bot:
        number = next(_numbers)
        made = Bot(f"{7_000_000 + number}:AA-b0t-s3cret-of-the-tests_{number:08d}", f"tocsin_{number}_bot")
        self._bots[made.token] = made
        return made

    def renew(self, bot: Bot) -> None:
        """Give it another token; the old one is not known any more."""
        del self._bots[bot.token]
        bot.token += "x"
        self._bots[bot.token] = bot

    def chat(self, title: str = "Ann", type: str = "private", username: str = "") -> Chat:
        number = 100_000 + next(_numbers)
        made = Chat(number if type == "private" else -number, type, title, username)
        self._chats[made.id] = made
        return made

    def upgrade(self, chat: Chat) -> Chat:
        """A group becomes a supergroup: it has another id from now on."""
        made = Chat(-1_000_000_000_000 + chat.id, "supergroup", chat.title)
        self._chats[made.id] = made
        chat.moved_to = made.id
        return made

    def write(self, bot: Bot, chat: Chat, text: str, person: Person = ANN) -> None:
        """Somebody writes a message that the bot sees."""
        said = {"message_id": next(_numbers), "chat": chat.shown, "date": 1700000000, "text": text}
        if chat.type == "channel":
            self._update(bot, {"channel_post": {**said, "sender_chat": chat.shown}})
        else:
            self._update(bot, {"message": {**said, "from": person.shown}})

    def press(
        self, posted: Posted, button: str, person: Person = ANN, bot: Bot | None = None, **changes: Any
    ) -> str:
        """Somebody presses a button; returns the number of the press. `changes` are of the query."""
        query = str(next(_numbers) * 7919)
        self._queries.add(query)
        self._update(bot or posted.bot, {"callback_query": {
            "id": query, "from": person.shown, "message": posted.shown, "chat_instance": "-1",
            "data": posted.buttons.get(button, ""), **changes,
        }})  # fmt: skip
        return query

    def answer_to(self, bot: Bot, query: str, *, timeout: float = 15.0) -> str:
        """What a presser is told."""
        return str(poll(
            lambda: next(({"text": each.get("text", "")} for each in bot.answers if each["query"] == query), None),
            timeout=timeout, what="the press to be answered",
        )["text"])  # fmt: skip

    def fail(
        self, method: str, status: int, description: str = "", *, done: bool = False, raw: bytes | None = None,
        headers: Mapping[str, str] | None = None, **parameters: Any,
    ) -> None:
        """Answer the next call of a method like this; with `done`, after having carried it out."""
        said = {"ok": False, "error_code": status, "description": description}
        body = json.dumps({**said, "parameters": parameters} if parameters else said).encode() if raw is None else raw
        self.faults.append(Fault(method, status, body, headers or {}, done))

    def in_(self, chat: Chat) -> list[Posted]:
        with self._changed:
            return [message for message in self.messages if message.chat is chat]

    def wait_for(self, chat: Chat, text: str, count: int = 1, *, timeout: float = 15.0) -> list[Posted]:
        """The chat's messages in which `text` can be read now, once there are so many."""

        def look() -> list[Posted] | None:
            found = [message for message in self.in_(chat) if text in message.text]
            return found if len(found) >= count else None

        return poll(
            look, timeout=timeout,
            what=lambda: f"{count} messages with {text!r}; there are {[each.text for each in self.in_(chat)]} "
            f"{self.calls[-5:]} {self.mistakes}",
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- the methods

    def _update(self, bot: Bot, what: dict[str, Any]) -> None:
        with self._changed:
            bot.updates.append({"update_id": 500_000_000 + next(_numbers), **what})
            self._changed.notify_all()

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        _, first, method = path.split("/", 2)
        fault = next((each for each in self.faults if each.method == method), None)
        if fault is not None:
            self.faults.remove(fault)
            if not fault.done:
                return fault.status, fault.body, fault.headers
        self.calls.append(method)
        bot = self._bots.get(first.removeprefix("bot"))
        if bot is None or bot.revoked:
            status, result, more = _no(401, "Unauthorized")
        elif headers.get("content-type") != "application/json":
            status, result, more = self._wrong("Bad Request: can't parse the body")
        else:
            do = {
                "getMe": self._get_me, "getWebhookInfo": self._get_webhook_info, "getChat": self._get_chat,
                "getUpdates": self._get_updates, "sendMessage": self._send, "editMessageText": self._edit,
                "answerCallbackQuery": self._answer_query,
            }.get(method)  # fmt: skip
            if do is None:
                return 404, b'{"ok":false,"error_code":404,"description":"Not Found: method not found"}', {}
            status, result, more = do(bot, json.loads(body))
        if fault is not None:
            return fault.status, fault.body, fault.headers
        said = {"ok": True, "result": result} if status == 200 else (
            {"ok": False, "error_code": status, "description": result, **more}
        )
        return status, json.dumps(said).encode(), {}

    def _get_me(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        return 200, {"id": bot.id, "is_bot": True, "first_name": "Tocsin", "username": bot.username,
                     "can_join_groups": True, "can_read_all_group_messages": False}, {}  # fmt: skip

    def _get_webhook_info(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        return 200, {"url": bot.webhook, "has_custom_certificate": False, "pending_update_count": 0}, {}

    def _get_chat(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        wanted = arguments["chat_id"]
        for chat in self._chats.values():
            if wanted == chat.id or (chat.username and wanted == f"@{chat.username}"):
                return 200, {**chat.shown, "max_reaction_count": 11, "accent_color_id": 5}, {}
        return _no(400, "Bad Request: chat not found")

    def _get_updates(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        offset, limit, timeout = arguments.get("offset", 0), arguments.get("limit", 100), arguments.get("timeout", 0)
        kinds = arguments.get("allowed_updates", [])
        known = {"offset", "limit", "timeout", "allowed_updates"}
        if arguments.keys() - known or not 1 <= limit <= 100 or not 0 <= timeout <= 50:
            return self._wrong("Bad Request: getUpdates")
        if bot.webhook:
            return _no(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to "
                            "delete the webhook first")  # fmt: skip
        me, until = object(), time.monotonic() + timeout
        with self._changed:
            self.polls += 1
            if bot.id in self._polling:
                self.most_polls = 2
            self._polling[bot.id] = me
            self._changed.notify_all()
            try:
                if offset > 0 and any(each["update_id"] >= offset - 1 for each in bot.updates):
                    bot.updates = [each for each in bot.updates if each["update_id"] >= offset]
                while not self._closing:
                    if self._polling.get(bot.id) is not me:
                        return _no(409, "Conflict: terminated by other getUpdates request; make sure that only one bot "
                                        "instance is running")  # fmt: skip
                    found = [each for each in bot.updates if not kinds or each.keys() & set(kinds)]
                    if found or time.monotonic() >= until:
                        return 200, found[:limit], {}
                    self._changed.wait(max(0.0, until - time.monotonic()))
            finally:
                if self._polling.get(bot.id) is me:
                    del self._polling[bot.id]
        return 200, [], {}

    def _place(self, arguments: dict[str, Any]) -> Chat | Said:
        chat = self._chats.get(arguments.get("chat_id", 0))
        if chat is None:
            return _no(400, "Bad Request: chat not found")
        if chat.trouble:
            return _no(*chat.trouble)
        if chat.moved_to:
            return 400, "Bad Request: group chat was upgraded to a supergroup chat", {
                "parameters": {"migrate_to_chat_id": chat.moved_to}
            }
        return chat

    def _text(self, arguments: dict[str, Any], known: set[str]) -> str | Said:
        if unknown := arguments.keys() - known:
            return self._wrong(f"Bad Request: unknown {sorted(unknown)}")
        text = arguments.get("text", "")
        if len(text.encode()) > 1 << 15:
            return self._wrong("Bad Request: text is too long")
        if arguments.get("parse_mode") == "HTML":
            try:
                text = read(text)
            except Misread as problem:
                return self._wrong(f"Bad Request: can't parse entities: {problem}")
        if not text.strip():
            return self._wrong("Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) > 2 * 4096:  # as entities are counted: the strictest way
            return self._wrong("Bad Request: message is too long")
        if "reply_markup" in arguments and (problem := keyboard_complaint(arguments["reply_markup"])):
            return self._wrong(f"Bad Request: {problem}")
        return text

    def _send(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        with self._changed:
            chat = self._place(arguments)
            if not isinstance(chat, Chat):
                return chat
            text = self._text(arguments, SEND)
            if not isinstance(text, str):
                return text
            keyboard = arguments.get("reply_markup", {}).get("inline_keyboard", [])
            made = Posted(bot, chat, next(_numbers), arguments["text"], text, keyboard)
            self.messages.append(made)
        self.answers_go.wait(20)
        return 200, made.shown, {}

    def _edit(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        with self._changed:
            chat = self._place(arguments)
            if not isinstance(chat, Chat):
                return chat
            text = self._text(arguments, SEND | {"message_id"})
            if not isinstance(text, str):
                return text
            found = [each for each in self.in_(chat) if each.id == arguments["message_id"] and each.bot is bot]
            if not found:
                return _no(400, "Bad Request: message to edit not found")
            keyboard = arguments.get("reply_markup", {}).get("inline_keyboard", [])
            if (found[0].html, found[0].keyboard) == (arguments["text"], keyboard):
                return _no(400, "Bad Request: message is not modified: specified new message content and reply "
                                "markup are exactly the same as a current content and reply markup of the "
                                "message")  # fmt: skip
            found[0].html, found[0].text, found[0].keyboard = arguments["text"], text, keyboard
            found[0].writes += 1
            return 200, found[0].shown, {}

    def _answer_query(self, bot: Bot, arguments: dict[str, Any]) -> Said:
        if arguments.keys() - {"callback_query_id", "text", "show_alert"} or len(arguments.get("text", "")) > 200:
            return self._wrong("Bad Request: answerCallbackQuery")
        query = arguments["callback_query_id"]
        if query not in self._queries:
            return self._wrong("Bad Request: query is too old and response timeout expired or query ID is invalid")
        self._queries.discard(query)
        bot.answers.append({"query": query, **arguments})
        return 200, True, {}

    def _wrong(self, description: str) -> Said:
        self.mistakes.append(description)
        return _no(400, description)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        telegram = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, said, more = telegram._answer(self.path, headers, body)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    for name, value in {"Content-Length": str(len(said)), **more}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(said)
                except OSError:  # whoever asked is gone
                    self.close_connection = True

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing: pytest has its own ways to tell."""

        return Handler


def _no(status: int, description: str) -> Said:
    return status, description, {}
