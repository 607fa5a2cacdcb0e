"""A site that keeps what it was asked, for our clients and for curl."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.needed import program

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def here(host: str, port: int, **_: Any) -> Any:
    """A name server to whom every name is this machine."""
    return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)


@asynccontextmanager
async def recorder(*answers: bytes) -> AsyncIterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """A site that keeps the request line and the `Host` of all who ask; answers in turn, then 204."""
    asked: list[tuple[bytes, bytes]] = []
    left = list(answers)

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, *headers = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            asked.append((line.split(b" ", 1)[1], next(each for each in headers if each.lower().startswith(b"host:"))))
            writer.write(left.pop(0) if left else b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(record, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def curl(port: int, *addresses: str) -> None:
    """Let curl ask them all, in this order, wherever they lead."""
    command = [program("curl"), "--silent", "--globoff", "--max-time", "20", "--connect-to", f"::127.0.0.1:{port}"]
    for each in addresses:
        command += ["--output", os.devnull, each]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert await process.wait() in (0, 3, 52, 56), "curl is not well"
