"""What an answer must be like: its words, its JSON, its time. Hostile ones end as a failed check, within bounds."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest

from tests.curl import Said, curl, run
from tests.sites import answer, look, says, site
from tocsin.domain.monitors import Result

HEALTH = json.dumps({
    "status": "ok", "uptime": 5, "ratio": 0.5, "ready": True, "error": None, "na me": "größer",
    "checks": [{"name": "db", "status": "UP"}, {"name": "mail", "status": "UP"}],
}).encode()  # fmt: skip


async def seen(body: bytes, **fields: Any) -> Result:
    async with site(says(answer(body=body))) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await curl(url) == Said(0, 200)
        return await look(url, **fields)


async def test_a_page_with_words_that_must_not_be_there_is_bad_content() -> None:
    result = await seen(b"<p>Fatal &amp; final error</p>", keyword_absent="Fatal & final")
    assert (result.problem, result.status_code) == ("content", 200)
    assert result.message == "The page contains 'Fatal & final', which it must not (keyword_absent)"
    assert (await seen(b"all is well", keyword_absent="error", keyword="well")).ok


async def test_keywords_are_no_patterns() -> None:
    evil = "(a+)+$"
    async with asyncio.timeout(10):
        assert (await seen(b"a" * 60_000 + b"b", keyword=evil)).problem == "keyword"
        assert (await seen(b"a" * 60_000 + b"b", keyword_absent=evil)).ok
        assert (await seen(b"see (a+)+$ there", keyword=evil)).ok
        assert (await seen(b"anything", keyword=".*")).problem == "keyword"


@pytest.mark.parametrize(
    ("path", "value", "good"),
    [
        ("$.status", "ok", True),
        ("$.status", "OK", False),
        ("$.status", None, True),
        ("$.gone", None, False),
        ("$.uptime", 5, True),
        ("$.uptime", "5", True),
        ("$.uptime", 6, False),
        ("$.uptime", True, False),
        ("$.ratio", 0.5, True),
        ("$.ready", True, True),
        ("$.ready", "true", True),
        ("$.ready", 1, False),
        ("$.error", "null", True),
        ("$.error", None, True),
        ("$['na me']", "größer", True),
        ("$.checks[*].status", "UP", True),
        ("$.checks[?@.name=='mail'].status", "UP", True),
        ("$.checks[*].name", "db", False),
        ("$..status", "UP", False),
        ("$.checks[-1].name", "mail", True),
    ],
)
async def test_a_json_path_says_what_an_answer_must_hold(path: str, value: Any, good: bool) -> None:
    result = await seen(HEALTH, json_path=path, **({} if value is None else {"json_value": value}))
    assert result.problem == (None if good else "content")
    if not good:
        assert result.message is not None
        assert result.message.startswith(f"{path} ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>maintenance</html>", "it is no JSON"),
        (b"", "it is no JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "it is nested more than 64 deep"),
        (b'{"a":' * 10_000, "it is nested more than 64 deep"),
        (b"[" + b"1," * 30_000 + b"1]", "it has more than 20,000 members"),
        (b'"' + b"x" * 200_000 + b'"', "it is longer than 128 KiB"),
        (b"\xff\xfe\x00", "it is no JSON"),
        (b"9" * 5_000, "it is no JSON"),
    ],
    ids=["html", "empty", "deep lists", "deep objects", "many", "long", "binary", "a long number"],
)
async def test_what_is_no_usable_json_is_bad_content_and_says_why(body: bytes, message: str) -> None:
    result = await seen(body, json_path="$.status")
    assert result.problem == "content"
    assert result.message is not None
    assert message in result.message


async def test_a_good_answer_that_takes_too_long_is_slow() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write(answer())
        await writer.drain()

    async with site(late) as port:
        url = f"http://127.0.0.1:{port}/"
        _, took = await run("curl", "-s", "-o", "/dev/null", "-w", "%{time_starttransfer}", url)
        result = await look(url, max_response_ms=100)
        assert (result.problem, float(took) > 0.1) == ("slow", True)
        assert result.message is not None
        assert "more than 100 ms" in result.message
        assert result.response_ms is not None
        assert result.response_ms > 100
        assert (await look(url, max_response_ms=60_000)).ok
        assert (await look(url, max_response_ms=100, expected_status=404)).problem == "http_status"


async def test_bombs_end_as_failed_checks_with_bounded_memory() -> None:
    bomb = gzip.compress(b"\x00" * (64 << 20))
    assert len(bomb) < (64 << 20) / 900
    packed = answer(body=bomb, **{"Content-Encoding": "gzip"})
    many = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n"
    tracemalloc.start()
    try:
        for parts, fields, problem in (
            ([packed], {"keyword": "x"}, "keyword"),
            ([packed], {"json_path": "$.x"}, "content"),
            ([many], {}, "connection_error"),
        ):
            async with site(says(*parts)) as port:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                result = await look(f"http://127.0.0.1:{port}/", timeout=20, **fields)
                assert result.problem == problem, result
                assert tracemalloc.get_traced_memory()[1] - before < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [({"keyword": "never"}, "keyword"), ({"json_path": "$.a"}, "content"), ({"keyword_absent": "never"}, None)],
    ids=["keyword", "json", "absent"],
)
async def test_an_answer_that_never_ends_is_read_up_to_a_limit(fields: dict[str, Any], problem: str | None) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with site(endless) as port:
        result = await look(f"http://127.0.0.1:{port}/", timeout=20, **fields)
    assert result.problem == problem


async def test_json_that_never_ends_is_a_timeout() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1')
        await reader.read()

    async with site(dripping) as port:
        url = f"http://127.0.0.1:{port}/"
        assert (await look(url, timeout=0.5, json_path="$.a")).problem == "timeout"
        assert (await curl("--max-time", "0.5", url)).exit == 28
