"""The demo's receivers, on loopback: a webhook receiver, a mail server, stand-ins for Twilio, Slack and Discord, and a
small site that can go down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import click

PATIENCE = 60.0
"""Seconds that a notification may take before the demo fails. It takes one to five on an idle machine."""

Where = Literal["webhook", "mail", "sms", "slack", "discord"]
Status = Literal["ongoing", "resolved"]
Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nWelcome\n"

CHANNEL = "C1234567890"
GRANT = {
    "ok": True, "access_token": "xoxb-of-the-demo", "token_type": "bot", "scope": "chat:write,incoming-webhook",
    "bot_user_id": "U1234567890", "app_id": "A1234567890", "team": {"id": "T1234567890", "name": "My Workspace"},
    "authed_user": {"id": "U2", "scope": "channels:write", "access_token": "xoxp-of-the-demo", "token_type": "user"},
}  # fmt: skip
"""Slack's response to a consent (https://docs.slack.dev/reference/methods/oauth.v2.access)."""


class Failed(click.ClickException):
    """Something did not happen as expected; one line."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One notification at a receiver, with its time (seconds since the epoch)."""

    where: Where
    status: Status | None
    text: str
    at: float


class DemoReceivers:
    """A webhook receiver, a mail server, stand-ins for Twilio, Slack and Discord. `wait_for` waits for an arrival."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.webhook_port = self.mail_port = self.api_port = self.discord_port = 0
        self._news = asyncio.Condition()

    @property
    def environ(self) -> dict[str, str]:
        """The settings that make a service use them."""
        return {
            "TOCSIN_SMTP_URL": f"smtp://127.0.0.1:{self.mail_port}?starttls=never",
            "TOCSIN_EMAIL_FROM": "tocsin@example.com",
            "TOCSIN_SMS_PROVIDER": "twilio",
            "TOCSIN_TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000",
            "TOCSIN_TWILIO_AUTH_TOKEN": "of-the-demo",
            "TOCSIN_TWILIO_FROM": "+15005550006",
            "TOCSIN_TWILIO_API_URL": f"http://127.0.0.1:{self.api_port}",
            "TOCSIN_SLACK_CLIENT_ID": "1.2",
            "TOCSIN_SLACK_CLIENT_SECRET": "of-the-demo",
            "TOCSIN_SLACK_SIGNING_SECRET": "of-the-demo",
            "TOCSIN_SLACK_API_URL": f"http://127.0.0.1:{self.api_port}/api/",
            "TOCSIN_SLACK_AUTHORIZE_URL": f"http://127.0.0.1:{self.api_port}/oauth/v2/authorize",
        }

    @property
    def discord_url(self) -> str:
        """The address of a Discord webhook, for the ready-made one."""
        return f"http://127.0.0.1:{self.discord_port}/api/webhooks/1234567890/of-the-demo"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DemoReceivers]:
        async with (
            listening(self._webhook) as self.webhook_port,
            listening(self._mail) as self.mail_port,
            listening(self._api) as self.api_port,
            listening(self._discord) as self.discord_port,
        ):
            yield self

    async def wait_for(self, where: Where, status: Status | None, words: str = "") -> Arrival:
        """The first arrival there with that status and those words."""

        def found() -> list[Arrival]:
            at_place = [each for each in self.arrivals if each.where == where and each.status == status]
            return [each for each in at_place if words in each.text]

        async with self._news:
            try:
                async with asyncio.timeout(PATIENCE):  # unlike `wait_for`, it never swallows a cancellation
                    return (await self._news.wait_for(found))[0]
            except TimeoutError:
                what = f"{words} is {status}" if status else f"something with {words!r} was sent"
                raise Failed(f"{what}, but no {where} arrived within {PATIENCE:.0f} s") from None

    async def _arrived(self, where: Where, status: Status | None, text: str) -> None:
        async with self._news:
            self.arrivals.append(Arrival(where, status, text, time.time()))
            self._news.notify_all()

    async def _webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await _request(reader):
            writer.write(OK)
            payload = json.loads(request.body)
            text = f"{payload['incident_status']}: {payload['resource_name']}: {payload['incident_message']}"
            await self._arrived("webhook", payload["incident_status"], text)

    async def _discord(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """https://docs.discord.com/developers/resources/webhook#execute-webhook, as much as an embed needs."""
        while request := await _request(reader):
            message = json.loads(request.body)
            [embed] = message["embeds"]
            if len(embed["title"]) > 256 or len(embed["description"]) > 4096 or not isinstance(embed["color"], int):
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                continue
            writer.write(NO_CONTENT)
            await self._arrived("discord", _status(embed["title"]), f"{embed['title']}: {embed['description']}")

    async def _mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of SMTP (RFC 5321) as our client needs."""
        writer.write(b"220 demo\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                message = message_from_bytes(await reader.readuntil(b"\r\n.\r\n"), policy=policy.default)
                subject = str(message["Subject"])
                await self._arrived("mail", _status(subject), subject)
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")

    async def _api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The calls that we make of Twilio's Messages resource and of Slack's Web API, as documented."""
        while request := await _request(reader):
            path = urlsplit(request.target).path
            response = await (self._slack(path, request.body) if path.startswith("/api/") else self._sms(request.body))
            encoded = json.dumps(response).encode()
            status = b"200 OK" if path.startswith("/api/") else b"201 Created"
            head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (status, len(encoded)) + encoded)

    async def _sms(self, body: bytes) -> dict[str, Any]:
        """https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""
        text = dict(parse_qsl(body.decode()))["Body"]
        await self._arrived("sms", None if "verification code" in text else _status(text), text)
        return {"sid": f"SM{len(self.arrivals):032x}", "status": "queued", "error_code": None}

    async def _slack(self, path: str, body: bytes) -> dict[str, Any]:
        """https://docs.slack.dev/reference/methods/"""
        if path.endswith("/oauth.v2.access"):
            hook = f"http://127.0.0.1:{self.api_port}/services/T1/B1/of-the-demo"
            return {**GRANT, "incoming_webhook": {"channel": "#alerts", "channel_id": CHANNEL, "url": hook}}
        payload = json.loads(body)
        if path.endswith("/chat.postMessage"):
            text = payload["text"]
            await self._arrived("slack", None if "This channel is connected" in text else _status(text), text)
        elif path.endswith("/chat.update"):
            await self._arrived("slack", _status(payload["text"]), f"updated in place: {_shown(payload['text'])}")
        return {"ok": True, "channel": CHANNEL, "ts": payload.get("ts", f"{time.time():.6f}")}


def _shown(text: str) -> str:
    """https://docs.slack.dev/messaging/formatting-message-text#date-formatting"""
    return re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", text)


def _status(text: str) -> Status:
    return "resolved" if text.startswith("Resolved") else "ongoing"


class Site:
    """A small real site. While it is down, nothing listens at its address."""

    def __init__(self) -> None:
        self.port = 0
        self._up = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await _request(reader):
                writer.write(OK)

        self.port = await self._up.enter_async_context(listening(welcome, self.port))

    async def stop(self) -> None:
        await self._up.aclose()


@asynccontextmanager
async def listening(converse: Conversation, port: int = 0) -> AsyncIterator[int]:
    """A loopback port where each connection is a conversation. On exit, it is closed and all conversations end."""
    talks: set[asyncio.Task[Any]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await converse(reader, writer)
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port, reuse_address=True)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request: path and query, and body."""

    target: str
    body: bytes


async def _request(reader: asyncio.StreamReader) -> Request | None:
    """The next request on a connection, or None when there are no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(first.split(" ")[1], await reader.readexactly(int(headers.get("content-length", 0))))
