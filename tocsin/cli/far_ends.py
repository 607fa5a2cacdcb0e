"""The demo's far ends, on loopback: a webhook receiver, a mail server, and a small site that can go down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any, Literal

import click

PATIENCE = 60.0
"""Seconds that a notification may take before the demo fails. It takes one to five, where nobody else needs the CPU."""

Status = Literal["ongoing", "resolved"]
Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nWelcome\n"


class Failed(click.ClickException):
    """Something did not happen as it should; one line."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One notification at a far end, at a moment (seconds since the epoch)."""

    where: Literal["webhook", "mail"]
    incident: str
    status: Status
    text: str
    at: float


class FarEnds:
    """A webhook receiver and a mail server. What arrives can be waited for."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.webhook_port = self.mail_port = 0
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FarEnds]:
        async with listening(self._webhook) as self.webhook_port, listening(self._mail) as self.mail_port:
            yield self

    async def wait_for(self, where: str, status: str, name: str) -> Arrival:
        """The first arrival there that says that `name` is ongoing, or resolved."""

        def found() -> list[Arrival]:
            at_place = [each for each in self.arrivals if each.where == where and each.status == status]
            return [each for each in at_place if name in each.text]

        async with self._news:
            try:
                return (await asyncio.wait_for(self._news.wait_for(found), PATIENCE))[0]
            except TimeoutError:
                raise Failed(f"{name} is {status}, but no {where} said so within {PATIENCE:.0f} s") from None

    async def _arrived(self, arrival: Arrival) -> None:
        async with self._news:
            self.arrivals.append(arrival)
            self._news.notify_all()

    async def _webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await _request(reader):
            headers, body = request
            writer.write(OK)
            said = json.loads(body)
            text = f"{said['incident_status']}: {said['resource_name']}: {said['incident_message']}"
            incident = headers["tocsin-incident"]
            await self._arrived(Arrival("webhook", incident, said["incident_status"], text, time.time()))

    async def _mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of SMTP (RFC 5321) as one polite client needs."""
        writer.write(b"220 demo\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                message = message_from_bytes(await reader.readuntil(b"\r\n.\r\n"), policy=policy.default)
                incident, subject = str(message["References"]).partition("@")[0].strip("<"), str(message["Subject"])
                status: Status = "resolved" if subject.startswith("Resolved") else "ongoing"
                await self._arrived(Arrival("mail", incident, status, subject, time.time()))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


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
    """A loopback port where each connection is a conversation. Outside, nothing listens there, and all have ended."""
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


async def _request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes] | None:
    """One HTTP request: its headers, names in lower case, and its body. None when there are no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return headers, await reader.readexactly(int(headers.get("content-length", 0)))
