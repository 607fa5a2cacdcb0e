"""A mail server that follows a script: what it offers, and what it does at the moment that a test is about."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Then = Literal["answer", "silence", "close", "reset"]

GREETING = re.compile(r"EHLO (\[(IPv6:)?[0-9a-f:.]+\]|([a-z0-9-]+\.)+[a-z][a-z0-9-]+)", re.IGNORECASE)
"""What servers accept that are as strict as Postfix with `reject_non_fqdn_helo_hostname`."""


@dataclass
class Script:
    """`taken` is what it says to the end of the mail, if anything; `then` is what it does with what comes after."""

    taken: bytes | None = b"250 2.0.0 kept\r\n"
    then: Then = "answer"
    offers: tuple[str, ...] = ("8BITMIME",)
    tls: ssl.SSLContext | None = None
    injected: bytes = b""
    """What goes out in clear behind the answer to STARTTLS."""
    mails: list[bytes] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Every command, and `(TLS)` where encryption began."""
    port: int = 0


@asynccontextmanager
async def listening(
    script: Script, host: str = "127.0.0.1", smtps: ssl.SSLContext | None = None
) -> AsyncIterator[Script]:
    talks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        talks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _talk(script, reader, writer)
        finally:
            talks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(accepted, host, 0, ssl=smtps)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for talk in list(talks):
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def _talk(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    encrypted = False
    writer.write(b"220 mail.example.com ESMTP\r\n")
    while line := (await reader.readline()).decode().strip():
        script.said.append(line)
        match line.split(" ")[0].upper():
            case "EHLO" if not GREETING.fullmatch(line):
                writer.write(b"504 5.5.2 need a fully-qualified name\r\n")
            case "EHLO":
                offers = [*script.offers, *(["STARTTLS"] if script.tls and not encrypted else [])]
                lines = ["mail.example.com", *offers]
                marks = ["-"] * (len(lines) - 1) + [" "]
                writer.write("".join(f"250{mark}{each}\r\n" for mark, each in zip(marks, lines, strict=True)).encode())
            case "STARTTLS":
                writer.write(b"220 go ahead\r\n" + script.injected)
                await writer.drain()
                await writer.start_tls(script.tls)  # type: ignore[arg-type]
                encrypted = True
                script.said.append("(TLS)")
            case "AUTH":
                writer.write(b"235 welcome\r\n")
            case "DATA":
                writer.write(b"354 go ahead\r\n")
                script.mails.append((await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n."))
                if script.taken is not None:
                    writer.write(script.taken)
                    await writer.drain()
                if script.then == "close":
                    writer.close()
                    return
                if script.then == "reset":
                    writer.transport.abort()
                    return
                if script.then == "silence":
                    while line := (await reader.readline()).decode().strip():
                        script.said.append(line)
                    return
            case "QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                return
            case _:
                writer.write(b"250 OK\r\n")
