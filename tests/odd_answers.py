"""Answers that no standard asks for and that servers give all the same, who gives them, and how they are read."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import pytest_asyncio

from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.monitors import Result, Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.http import Answer, Http, Unreachable

How = Literal["close", "hang", "reset", "at once"]

CHUNKED = b"Transfer-Encoding: chunked"
TWO = b"Content-Length: 2"


def said(*lines: bytes, body: bytes = b"ok", end: bytes = b"\r\n") -> bytes:
    """An answer of these lines, the first of which is its status line."""
    return end.join(lines) + end + end + body


def chunks(body: bytes, *more: bytes, wrapping: bytes = b"chunked") -> bytes:
    return said(b"HTTP/1.1 200 OK", b"Transfer-Encoding: " + wrapping, *more, body=body)


PLAIN = said(b"HTTP/1.1 200 OK", TWO)

ODD: dict[str, bytes | tuple[bytes, How]] = {
    "nothing odd": PLAIN,
    "left open": (PLAIN, "hang"),
    "reset after its end": (PLAIN, "reset"),
    "no headers": b"HTTP/1.1 200 OK\r\n\r\nok",
    "no headers and no body": b"HTTP/1.1 200 OK\r\n\r\n",
    "no length, reset": (b"HTTP/1.1 200 OK\r\n\r\nok", "reset"),
    # The status line.
    "no reason": said(b"HTTP/1.1 200", TWO),
    "a blank for a reason": said(b"HTTP/1.1 200 ", TWO),
    "a reason in Latin-1": said("HTTP/1.1 200 Größe".encode("latin-1"), TWO),
    "a reason in UTF-8": said("HTTP/1.1 200 Größe".encode(), TWO),
    "a reason without a blank": said(b"HTTP/1.1 200OK", TWO),
    "a tab before the reason": said(b"HTTP/1.1 200\tOK", TWO),
    "two blanks before the status": said(b"HTTP/1.1  200 OK", TWO),
    "a tab before the status": said(b"HTTP/1.1\t200 OK", TWO),
    "small letters": said(b"http/1.1 200 OK", TWO),
    "HTTP/1.0": said(b"HTTP/1.0 200 OK"),
    "HTTP/1.0 with a length": said(b"HTTP/1.0 200 OK", TWO),
    "HTTP/1.0 in chunks": (said(b"HTTP/1.0 200 OK", CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"), "hang"),
    "HTTP/1.2": said(b"HTTP/1.2 200 OK", TWO),
    "HTTP/1": said(b"HTTP/1 200 OK", TWO),
    "HTTP/0.9": said(b"HTTP/0.9 200 OK", TWO),
    "HTTP/3": said(b"HTTP/3 200", TWO),
    "no version": said(b"HTTP 200 OK", TWO),
    "ICY": said(b"ICY 200 OK", TWO),
    "a blank before it": said(b" HTTP/1.1 200 OK", TWO),
    "an empty line before it": b"\r\n" + PLAIN,
    "words before it": b"hello\r\n" + PLAIN,
    "a page alone": b"<html>ok</html>",
    "nothing at all": b"",
    "no status": said(b"HTTP/1.1 OK", TWO),
    "status 20": said(b"HTTP/1.1 20 OK", TWO),
    "status 099": said(b"HTTP/1.1 099 OK", TWO),
    "status 600": said(b"HTTP/1.1 600 OK", TWO),
    "status 999": said(b"HTTP/1.1 999 OK", TWO),
    "status 1000": said(b"HTTP/1.1 1000 OK", TWO),
    # Headers.
    "a folded header": said(b"HTTP/1.1 200 OK", b"X-A: one", b"  two", TWO),
    "a header folded by a tab": said(b"HTTP/1.1 200 OK", b"X-A: one", b"\ttwo", TWO),
    "a fold before any header": said(b"HTTP/1.1 200 OK", b" X-A: one", TWO),
    "bare line feeds": said(b"HTTP/1.1 200 OK", TWO, end=b"\n"),
    "bare line feeds everywhere": said(b"HTTP/1.1 200 OK", CHUNKED, body=b"2\nok\n0\n\n", end=b"\n"),
    "line ends of both kinds": b"HTTP/1.1 200 OK\nX: y\r\nContent-Length: 2\n\r\nok",
    "two carriage returns": b"HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\r\n\r\r\nok",
    "no colon": said(b"HTTP/1.1 200 OK", b"Hello there", TWO),
    "a blank before the colon": said(b"HTTP/1.1 200 OK", b"X-A : b", TWO),
    "a blank in a name": said(b"HTTP/1.1 200 OK", b"X A: b", TWO),
    "a name outside ASCII": said(b"HTTP/1.1 200 OK", "X-ä: b".encode(), TWO),
    "an empty name": said(b"HTTP/1.1 200 OK", b": b", TWO),
    "an empty value": said(b"HTTP/1.1 200 OK", b"X-A:", TWO),
    "a value in Latin-1": said(b"HTTP/1.1 200 OK", b"X-A: \xe9", TWO),
    "a value in UTF-8": said(b"HTTP/1.1 200 OK", "X-A: ✓".encode(), TWO),
    "a value with control characters": said(b"HTTP/1.1 200 OK", b"X-A: a\x01\x7fb", TWO),
    "a value with a carriage return": said(b"HTTP/1.1 200 OK", b"X-A: a\rb", TWO),
    "a value with a NUL": said(b"HTTP/1.1 200 OK", b"X-A: a\x00b", TWO),
    # Before and after.
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    "102 and 103s before": b"".join(b"HTTP/1.1 %d X\r\nLink: </a>\r\n\r\n" % n for n in (102, 103, 103)) + PLAIN,
    "100 with a length before": b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n" + PLAIN,
    "100 alone": b"HTTP/1.1 100 Continue\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    "200 that offers an upgrade": said(b"HTTP/1.1 200 OK", b"Upgrade: h2,h2c", b"Connection: Upgrade", TWO),
    "bytes after its end": PLAIN + b"HTTP/1.1 500 No\r\n\r\n",
    "told before it was asked": (PLAIN, "at once"),
    # Lengths.
    "204 with a length": (said(b"HTTP/1.1 204 No Content", b"Content-Length: 20", body=b""), "hang"),
    "204 in chunks": (said(b"HTTP/1.1 204 No Content", CHUNKED, body=b""), "hang"),
    "304 with a length": (said(b"HTTP/1.1 304 Not Modified", b"Content-Length: 20", body=b""), "hang"),
    "the length twice": said(b"HTTP/1.1 200 OK", TWO, TWO),
    "the length with commas": (said(b"HTTP/1.1 200 OK", b"Content-Length: 2, 2"), "hang"),
    "two lengths, the last one right": said(b"HTTP/1.1 200 OK", b"Content-Length: 5", TWO),
    "two lengths, the last one wrong": said(b"HTTP/1.1 200 OK", TWO, b"Content-Length: 5"),
    "a length with blanks": said(b"HTTP/1.1 200 OK", b"Content-Length:   2  "),
    "a length that is none": said(b"HTTP/1.1 200 OK", b"Content-Length: two"),
    "a negative length": said(b"HTTP/1.1 200 OK", b"Content-Length: -2"),
    "a length too short": said(b"HTTP/1.1 200 OK", b"Content-Length: 1"),
    "cut before its length": said(b"HTTP/1.1 200 OK", b"Content-Length: 20"),
    # Chunks.
    "length and chunks": (chunks(b"2\r\nok\r\n0\r\n\r\n", b"Content-Length: 200"), "hang"),
    "large letters": said(b"HTTP/1.1 200 OK", b"TRANSFER-ENCODING: Chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "chunked twice": (chunks(b"2\r\nok\r\n0\r\n\r\n", CHUNKED), "hang"),
    "a coding that nobody knows": said(b"HTTP/1.1 200 OK", b"Transfer-Encoding: foo"),
    "chunks of a coding that nobody knows": said(b"HTTP/1.1 200 OK", b"Transfer-Encoding: foo, chunked"),
    "chunks that are no gzip": chunks(b"2\r\nok\r\n0\r\n\r\n", wrapping=b"gzip, chunked"),
    "a blank before an extension": chunks(b"2 ;a=b\r\nok\r\n0\r\n\r\n"),
    "extensions": chunks(b'2;a="b"\r\nok\r\n0;c\r\n\r\n'),
    "blanks after the size": chunks(b"2  \r\nok\r\n0  \r\n\r\n"),
    "a blank before the size": chunks(b" 2\r\nok\r\n0\r\n\r\n"),
    "zeros before the size": chunks(b"0000000002\r\nok\r\n000\r\n\r\n"),
    "a size in large letters": chunks(b"A\r\n0123456789\r\n0\r\n\r\n"),
    "a size of too many digits": chunks(b"0" * 20 + b"2\r\nok\r\n0\r\n\r\n"),
    "a size that is none": chunks(b"zz\r\nok\r\n0\r\n\r\n"),
    "no line end after a chunk": chunks(b"2\r\nok0\r\n\r\n"),
    "trailers": chunks(b"2\r\nok\r\n0\r\nX: y\r\nZ: w\r\n\r\n"),
    "no last chunk": chunks(b"2\r\nok\r\n"),
    "no chunk at all": chunks(b""),
    "cut after the last chunk": chunks(b"2\r\nok\r\n0\r\n"),
}  # fmt: skip


@asynccontextmanager
async def serving(answer: bytes, how: How = "close", *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Oddity]:
    """A server that answers every connection's first request with exactly these bytes."""
    here = Oddity(answer, how)
    server = await asyncio.start_server(here.converse, "127.0.0.1", 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        for writer in here.open:
            writer.transport.abort()


class Oddity:
    """`asked` are the heads of the requests so far, `connections` how many connections there were."""

    def __init__(self, answer: bytes, how: How) -> None:
        self.answer = answer
        self.how = how
        self.port = 0
        self.connections = 0
        self.asked: list[bytes] = []
        self.open: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.append(writer)
        try:
            if self.how == "at once":
                writer.write(self.answer)
            while True:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                if self.how != "at once":
                    writer.write(self.answer)
                await writer.drain()
                if self.how in ("close", "reset"):
                    break
            if self.how == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            if writer.can_write_eof():
                writer.write_eof()  # as servers close: what the other side still sends makes no reset of it
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


GUARD = Guard([ipaddress.ip_network("127.0.0.0/8")])
WIRES = CheckContext(Dialer(GUARD), "Tocsin/test")
MEBIBYTE = 1 << 20


@pytest_asyncio.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(GUARD)
    yield http
    await http.close()


async def look(url: str, *, status: int = 200, timeout: float = 20, keyword: str | None = None) -> Result:
    return await run_check(Target(url, "http", timeout, {"expected_status": [status], "keyword": keyword}), WIRES)


async def posted(http: Http, url: str) -> Answer | str:
    """The answer, or why there is none."""
    try:
        return await http.post(url, b"{}", {})
    except Unreachable as error:
        return str(error)


async def curl(url: str, *more: str) -> tuple[int, int]:
    """The status that curl read, 0 for none, and its exit code."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    running = await asyncio.create_subprocess_exec(
        program, "-s", "-o", "/dev/null", "--noproxy", "*", "--max-time", "15", "-w", "%{http_code}", *more, url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await running.communicate()
    assert running.returncode is not None
    return int(printed), running.returncode
