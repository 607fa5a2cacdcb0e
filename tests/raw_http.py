"""HTTP/1.1 byte for byte: what clients should not send, and a strict reading of what is answered."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.service import Service

HEAD = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*\r\n((?:[!#$%&'*+.^_`|~\w-]+: ?[\t -~]*\r\n)*)\r\n")
INTERIM = 200
WITHOUT_BODY = (204, 304)


class Malformed(AssertionError):
    """An answer that no client could read for sure."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answers(received: bytes, *methods: str) -> list[Answer]:
    """Everything that was received, as answers to requests of these methods (GET, where more come than are named).

    Raises `Malformed` for what is no answer, is cut off, or follows an answer that said it was the last.
    """
    found: list[Answer] = []
    rest, last, number = received, False, 0
    while rest:
        if last:
            raise Malformed(f"more follows the last answer: {rest[:100]!r}")
        method = methods[number] if number < len(methods) else "GET"
        answer, rest = _one(rest, method)
        if answer.status >= INTERIM:
            found.append(answer)
            number += 1
            last = answer.headers.get("connection", "").lower() == "close"
    return found


def _one(received: bytes, method: str) -> tuple[Answer, bytes]:
    head = HEAD.match(received)
    if head is None:
        raise Malformed(f"no answer: {received[:200]!r}")
    lines = [line.partition(b":") for line in head[2].split(b"\r\n") if line]
    headers = {name.decode().lower(): value.strip().decode() for name, _, value in lines}
    if sum(name.lower() == b"content-length" for name, _, _ in lines) > 1:
        raise Malformed(f"two lengths: {received[:200]!r}")
    status, rest = int(head[1]), received[head.end() :]
    if method == "HEAD" or status in WITHOUT_BODY or status < INTERIM:
        return Answer(status, headers, b""), rest
    if headers.get("transfer-encoding") == "chunked":
        body, rest = _chunks(rest)
        return Answer(status, headers, body), rest
    length = int(headers["content-length"])
    if len(rest) < length:
        raise Malformed(f"cut off: {received[:200]!r}")
    return Answer(status, headers, rest[:length]), rest[length:]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        length = int(size, 16) if found else -1
        if length < 0 or rest[length : length + 2] != b"\r\n":
            raise Malformed(f"not in chunks: {size[:50]!r} {rest[:100]!r}")
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest


class Wire:
    """One connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Each part leaves by itself; what the other side does not want any more is lost."""
        for part in parts:
            try:
                self.writer.write(part)
                await self.writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(pause)

    async def rest(self, timeout: float = 30.0) -> bytes:
        """What comes until the other side ends the connection."""
        received, last = bytearray(), time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while part := await self.reader.read(1 << 16):
                    received += part
                    last = time.monotonic()
        except ConnectionError:
            pass
        except TimeoutError:
            silent = time.monotonic() - last
            raise TimeoutError(f"not ended, after {len(received)} bytes and {silent:.1f} s of silence") from None
        return bytes(received)

    async def answer(self, timeout: float = 30.0) -> Answer:
        """One answer with a length, on a connection that goes on."""
        async with asyncio.timeout(timeout):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length, head
            return answers(head + await self.reader.readexactly(int(length[1])))[0]

    def close(self) -> None:
        self.writer.transport.abort()


async def dial(port: int, source: str | None = None) -> Wire:
    local = (source, 0) if source else None
    return Wire(*await asyncio.open_connection("127.0.0.1", port, local_addr=local, limit=1 << 26))


async def ask(
    port: int, *parts: bytes, methods: tuple[str, ...] = (), pause: float = 0.0, source: str | None = None
) -> list[Answer]:
    """All answers to these bytes, on a connection that the server must end by itself."""
    wire = await dial(port, source)
    try:
        await wire.send(*parts, pause=pause)
        return answers(await wire.rest(), *methods)
    finally:
        wire.close()


LIVE = b"/health/live"
INCIDENTS = b"/api/v1/incidents"
GET = b"GET %b HTTP/1.1\r\nHost: tocsin.example.com\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nHost: tocsin.example.com\r\nConnection: close\r\n\r\n"


def port_of(service: Service) -> int:
    port = urlsplit(service.url).port
    assert port
    return port


def post(
    *headers: bytes, body: bytes = b"", path: bytes = INCIDENTS, host: bytes = b"Host: tocsin.example.com"
) -> bytes:
    return b"\r\n".join([b"POST %b HTTP/1.1" % path, host, *headers, b"", b""]) + body


def is_refusal(answer: Answer, status: int) -> bool:
    said = answer.json
    return (
        answer.status == status
        and answer.headers["content-type"] == "application/json"
        and answer.headers["connection"] == "close"
        and set(said) == {"error", "message", "details"}
        and bool(said["message"])
        and said["details"] == []
    )
