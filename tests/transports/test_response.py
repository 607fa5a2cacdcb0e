"""What every browser and curl read, we read; and nothing is read without end."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import trustme
import uvloop

from tests.odd_answers import (
    CHUNKED,
    GUARD,
    MEBIBYTE,
    ODD,
    PLAIN,
    TWO,
    How,
    chunks,
    curl,
    http,
    look,
    posted,
    said,
    serving,
)
from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.monitors import Target
from tocsin.transports.dial import Dialer
from tocsin.transports.http import Answer, Http
from tocsin.transports.response import Response, Unreadable

__all__ = ["http"]


# ---------------------------------------------------------------------------------------------------- what curl reads


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_is_read_as_curl_reads_it(name: str, http: Http) -> None:
    row = ODD[name]
    async with serving(*(row if isinstance(row, tuple) else (row,))) as there:
        status, left = await curl(there.url)
        checked = await look(there.url, status=status or 200)
        answer = await posted(http, there.url)
    if left == 0:
        assert (checked.problem, checked.status_code) == (None, status)
    else:
        assert (checked.problem, bool(checked.message)) == ("connection_error", True)
    if status >= 200 or status == 101:
        assert isinstance(answer, Answer)
        assert answer.status == status
    else:
        assert answer in ("The answer is not HTTP", "Connection was closed before an answer")


@pytest.mark.parametrize(
    ("answer", "how"),
    [
        (said(b"HTTP/1.1 200 OK", b"Content-Length:", b" 2"), "hang"),
        (said(b"HTTP/1.1 200 OK", b"Content-Length : 2"), "hang"),
        (said(b"HTTP/1.1 200 OK", b"Transfer-Encoding: identity", TWO), "hang"),
        (chunks(b"2\r\nok\r\n0\r\nno trailer\r\n\r\n"), "hang"),
    ],
)
async def test_where_curl_waits_or_refuses_although_the_end_is_clear_we_read(answer: bytes, how: How) -> None:
    async with serving(answer, how) as there:
        assert (await look(there.url, keyword="ok")).ok


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", PLAIN[:-4]])
async def test_a_head_that_breaks_off_is_a_failed_check_whatever_curl_says(answer: bytes) -> None:
    async with serving(answer) as there:
        result = await look(there.url)
    assert (result.problem, result.message) == (
        "connection_error", "Connection closed before the answer was complete",
    )  # fmt: skip


def read(answer: bytes, size: int) -> tuple[object, ...]:
    """What comes of an answer that arrives in packets of that size."""
    response = Response(MEBIBYTE)
    trouble = ""
    try:
        for at in range(0, len(answer), size):
            response.feed(answer[at : at + size])
    except Unreadable as error:
        trouble = str(error)
    whole = response.complete
    return response.begun, response.status, whole, whole and response.reusable, bytes(response.body), trouble


@pytest.mark.parametrize("name", ODD)
def test_it_makes_no_difference_how_an_answer_is_cut_into_packets(name: str) -> None:
    row = ODD[name]
    answer = row if isinstance(row, bytes) else row[0]
    assert {read(answer, size) for size in (1, 2, 3, 7)} == {read(answer, len(answer) or 1)}


def test_whatever_comes_is_read_or_refused_in_words_and_the_same_in_any_packets() -> None:
    seed = time.time_ns()
    print("seed", seed)
    dice = random.Random(seed)
    answers = [row if isinstance(row, bytes) else row[0] for row in ODD.values()]
    pieces = [b"\r\n", b"\r\n\r\n", *(bytes([byte]) for byte in b"\r\n\t :;,02f-\x00\xff")]
    for _ in range(5_000):
        answer = bytearray(dice.choice(answers))
        for _ in range(dice.randint(1, 4)):
            at = dice.randint(0, len(answer))
            answer[at : at + dice.randint(0, 3)] = dice.choice(pieces)
        assert read(bytes(answer), dice.randint(1, 9)) == read(bytes(answer), len(answer) or 1), bytes(answer)


# ------------------------------------------------------------------------------------------------------- without end


def endless(start: bytes, more: bytes) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        yield start
        block = more * max(1, (64 << 10) // len(more))
        for _ in range(24 * MEBIBYTE // len(block)):
            yield block

    return parts


HEAD = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "headers": endless(HEAD, b"X-A: b\r\n"),
    "one header": endless(HEAD + b"X-A: ", b"b"),
    "folds": endless(HEAD + b"X-A: b\r\n", b" b\r\n"),
    "1xx": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a status line": endless(HEAD[:-2], b"K"),
    "trailers": endless(chunks(b"2\r\nok\r\n0\r\n"), b"X-A: b\r\n"),
    "one trailer": endless(chunks(b"2\r\nok\r\n0\r\nX-A: "), b"b"),
    "extensions": endless(chunks(b""), b"2;a=bcdefghijklmnopqrstuvw\r\nok\r\n"),
    "one extension": endless(chunks(b"2;"), b"b"),
    "blanks after a size": endless(chunks(b"2"), b" "),
    "a size": endless(chunks(b""), b"0"),
    "chunks of one byte": endless(chunks(b""), b"1\r\nx\r\n"),
    "chunks": endless(chunks(b""), b"400\r\n" + b"x" * 1024 + b"\r\n"),
    "a body": endless(said(HEAD[:-2], body=b""), b"x"),
    "a body with a length": endless(said(HEAD[:-2], b"Content-Length: 99999999", body=b""), b"x"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_end_is_left_soon_and_takes_no_memory(name: str, http: Http) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in ENDLESS[name]():
                writer.write(part)
                sent += len(part)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        tracemalloc.start()
        try:
            answer = await posted(http, url)
            result = await look(url, keyword="no such word")
            grown = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert grown < 8 * MEBIBYTE
    assert sent < 24 * MEBIBYTE
    assert not result.ok
    if name in ("1xx", "a status line"):
        assert answer == "The headers are longer than 64 KiB"
    else:
        assert isinstance(answer, Answer)
        assert answer.status == 200
        assert len(answer.text) <= 2048


# ---------------------------------------------------------------------------------------------------------- over TLS


@pytest.mark.parametrize(
    ("answer", "whole"),
    [(PLAIN, True), (said(b"HTTP/1.1 200 OK", b"Content-Length: 20"), False), (chunks(b"2\r\nok\r\n"), False)],
)
def test_tls_that_ends_without_a_farewell_is_judged_by_what_came(answer: bytes, whole: bool) -> None:
    async def told() -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        serving_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(serving_tls)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with serving(answer, tls=serving_tls) as there:
            url = there.url.replace("http:", "https:")
            _, left = await curl(url, "--insecure")
            target = Target(url, "http", 20, {"expected_status": [200]})
            result = await run_check(target, CheckContext(Dialer(GUARD, trusting), "Tocsin/test"))
            http = Http(GUARD, tls=trusting)
            given = await posted(http, url)
            await http.close()
        assert (left == 0) == whole
        assert result.problem == (None if whole else "connection_error")
        assert isinstance(given, Answer)
        assert given.status == 200

    asyncio.run(told())
    uvloop.run(told())


# ---------------------------------------------------------------------------------------------------------- by chunks


def test_a_page_of_many_small_chunks_is_whole() -> None:
    response = Response(MEBIBYTE)
    response.feed(said(HEAD[:-2], CHUNKED, body=b""))
    for _ in range(10_000):
        response.feed(b"1\r\nx\r\n5\r\nhello\r\n")
    response.feed(b"0\r\n\r\n")
    assert response.complete
    assert bytes(response.body) == b"xhello" * 10_000
