"""Sites on loopback that answer as a test tells them to, and a look at one."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tocsin.checks import base
from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.monitors import Result, Target
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

AGENT = "Tocsin/test"
VAULT = Vault([bytes(32)])
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
WIRES = CheckContext(Dialer(Guard(LOOPBACK)), AGENT)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def site(talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that talks as it is told to; its port."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(converse, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(*parts: bytes, asked: list[bytes] | None = None) -> Talk:
    """Answers any request with these parts, each in a packet of its own, then closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()

    return talk


def answer(status: str = "200 OK", body: bytes = b"fine", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirects(to: Callable[[str], str | None], asked: list[str]) -> Talk:
    """Answers by path: a redirect where `to` names one, else 200."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        asked.append(path)
        location = to(path)
        writer.write(answer() if location is None else answer("302 Found", Location=location))
        await writer.drain()

    return talk


async def look(url: str, context: CheckContext = WIRES, *, timeout: float = 20.0, **fields: Any) -> Result:
    kind = base.of(None, url)
    return await run_check(kind.validate(Target(url, kind.check_type, timeout, fields)), context)
