"""What every browser and curl read, we read; what was received counts; and nothing is read without end."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import shutil
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
import uvloop

from tests.odd_answers import CHUNKED, ODD, PLAIN, TWO, How, chunks, said, serving
from tocsin import settings
from tocsin.checks.base import Wires, perform
from tocsin.domain.deliveries import Delivered
from tocsin.domain.incidents import Notification
from tocsin.domain.monitors import Result, Target
from tocsin.integrations.base import Wires as Channels
from tocsin.integrations.slack import SlackIntegration
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.http import Answer, Http, Unreachable
from tocsin.transports.response import HEAD_LIMIT, Response, Unreadable
from tocsin.transports.slack import Slack, SlackRefused
from tocsin.transports.sms.twilio import Twilio
from tocsin.transports.smtp import Mailer

GUARD = Guard([ipaddress.ip_network("127.0.0.0/8")])
WIRES = Wires(Dialer(GUARD), "Tocsin/test")
MEBIBYTE = 1 << 20
NOTIFICATION = Notification("DLV1", "opened", "INC1", "Server", "web-1", "", "cpu", "CPU at 97 %", datetime.now(UTC))


@pytest_asyncio.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(GUARD)
    yield http
    await http.close()


async def look(url: str, *, status: int = 200, timeout: float = 20, keyword: str | None = None) -> Result:
    return await perform(Target(url, "http", timeout, expected_status=[status], keyword=keyword), WIRES)


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


# ------------------------------------------------------------------------------------------------ what was received


@pytest.mark.parametrize(
    ("answer", "how"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "hang"),
        (b"HTTP/1.1 200 OK\r\n", "hang"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "hang"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun", "hang"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
        (said(b"HTTP/1.1 200 OK", b"no colon"), "close"),
        (said(b"HTTP/1.1 200 OK", b"X-A: \x00"), "close"),
        (said(b"HTTP/1.1 200 OK", b"Content-Length: many"), "close"),
        (said(b"HTTP/1.1 200 OK", b"X-A: " + b"a" * 2 * HEAD_LIMIT), "close"),
        (said(b"HTTP/1.1 200 OK", b"Content-Encoding: gzip", TWO), "close"),
        (chunks(b"zz\r\n"), "close"),
    ],
)
async def test_from_its_status_on_an_answer_counts_whatever_follows(answer: bytes, how: How, http: Http) -> None:
    began = time.monotonic()
    async with serving(answer, how) as there:
        given = await posted(http, there.url)
        assert isinstance(given, Answer)
        assert given.status == 200
        assert there.connections == 1
    assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"HTTP/1.1 200 OK", 200), (b"HTTP/1.1 200 ", 200), (b"HTTP/1.1 200", 0), (b"HTTP/1.1 103 Early", 0), (b"", 0)],
)
def test_a_status_whose_line_does_not_end_counts_once_the_time_is_over(line: bytes, status: int) -> None:
    response = Response(MEBIBYTE)
    response.feed(line)
    assert response.begun == 0
    assert response.give_up() == status


async def test_a_foreword_alone_is_no_answer(http: Http) -> None:
    async with serving(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink", "close") as there:
        assert await posted(http, there.url) == "Connection was closed before an answer"


async def test_how_long_to_wait_is_known_although_the_body_hangs(http: Http) -> None:
    answer = said(b"HTTP/1.1 503 Busy", b"Retry-After: 30", b"Content-Length: 9")
    async with serving(answer, "hang") as there:
        given = await posted(http, there.url)
    assert isinstance(given, Answer)
    assert (given.status, given.headers["retry-after"]) == (503, "30")


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (PLAIN, 1),
        (chunks(b"2\r\nok\r\n0\r\n\r\n"), 1),
        (said(b"HTTP/1.1 200 OK", TWO, b"Connection: close"), 3),
        (said(b"HTTP/1.0 200 OK", TWO), 3),
        (said(b"HTTP/1.1 200 OK", TWO, end=b"\n"), 3),
        (said(b"HTTP/1.1 200 OK", b"X-A: b", b" c", TWO), 3),
        (said(b"HTTP/1.1 200 OK", b"X-A: a\rContent-Length: 3", TWO), 3),
        (said(b"HTTP/1.1 200 OK", b"Content-Length : 2"), 3),
        (said(b"HTTP/1.1 200 OK", TWO, TWO), 3),
        (said(b"HTTP/1.1 200 OK", b"Content-Length: 2, 2"), 3),
        (said(b"HTTP/1.1 200 OK", b"Content-Length: +2"), 3),
        (chunks(b"2\r\nok\r\n0\r\n\r\n", TWO), 3),
        (chunks(b"2\nok\r\n0\r\n\r\n"), 3),
        (said(b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n"), 3),
        (PLAIN + PLAIN, 3),
    ],
)
async def test_no_request_follows_on_a_connection_whose_answer_can_be_read_in_two_ways(
    answer: bytes, connections: int, http: Http
) -> None:
    async with serving(answer, "hang") as there:
        for _ in range(3):
            assert isinstance(await posted(http, there.url), Answer)
        assert (len(there.asked), there.connections) == (3, connections)


async def test_a_webhook_whose_answer_leaves_the_connection_open_is_posted_once(http: Http, tmp_path: Path) -> None:
    webhook = WebhookIntegration()
    wires = Channels(http, Mailer(None, "tocsin@example.com", tmp_path), "http://tocsin.test")
    for answer in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: one\r\n two\r\n\r\n"):
        async with serving(answer, "hang") as there:
            outcome = await webhook.send(webhook.parse({"webhook_url": there.url}), NOTIFICATION, wires)
            assert (outcome, len(there.asked)) == (Delivered(200, ""), 1)


@pytest.mark.parametrize("status", [b"201 Created", b"200 OK", b"202 Accepted"])
@pytest.mark.parametrize(
    ("rest", "how"),
    [(b"Content-Length: 900\r\n\r\n{", "close"), (b"Content-Length: 900\r\n\r\n{", "reset"), (b"X-A: b", "reset"),
     (b"X-A: b\r\n c\r\n\r\n", "close"), (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "close")],
)  # fmt: skip
async def test_a_text_message_that_was_taken_is_not_paid_twice(status: bytes, rest: bytes, how: How) -> None:
    async with serving(b"HTTP/1.1 " + status + b"\r\n" + rest, how) as there:
        twilio = Twilio(settings.Twilio("AC1", "secret", "+15005550006", there.url.rstrip("/")))
        taken = await twilio.send("+15005550001", "CPU at 97 %", None)
        await twilio.close()
    assert (taken.id, taken.status_code) == ("", int(status[:3]))


@pytest.mark.parametrize(
    ("body", "done"),
    [(b'{"ok":true,"channel":"C1","ts":"17', True), (b' { "ok" : true }', True), (b"", True), (b'{"ok', True),
     (b'{"channel":"C1","ok":true,', True), (b'{"message":{"ok":false,"error":"no"},"chan', True), (b'{"ok":tr', True),
     (b'{"message":{"ok":false},"ok":true', True), (b'{"ok":false,"error":"no', False), (b'{"ok":f', False),
     (b'{"channel":"C1","ok" : false , "err', False), (b'{"message":{"ok":true},"ok":false', False),
     (b"<html>", False), (b"[" * 100_000, False), (b'{"a":' * 30_000, True)],
)  # fmt: skip
async def test_what_slack_does_not_deny_is_done_although_its_answer_breaks_off(body: bytes, done: bool) -> None:
    assert await slack_did(said(b"HTTP/1.1 200 OK", b"Content-Length: 200000", body=body)) is done


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"<html>", b'{"channel":"C1"}', b'{"ok":1}', b'{"ok":trueish', b'{"ok"', b"{" * 9]
)
async def test_a_whole_answer_in_which_slack_does_not_say_that_it_has_done_it_is_a_failure(body: bytes) -> None:
    assert not await slack_did(said(b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), body=body))
    assert not await slack_did(b"HTTP/1.1 200 OK\r\n\r\n" + body)
    assert not await slack_did(chunks((b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"))


async def test_a_status_of_slack_s_that_nothing_follows_is_the_message_taken_without_its_name() -> None:
    settings_ = {"bot_token": "xoxb-1", "user_token": "xoxp-1", "channel_id": "C1"}
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "hang") as there:
        slack = Slack(settings.Slack("1", "secret", "secret", there.url, there.url))
        mail = Mailer(None, "tocsin@example.com", Path("nowhere"))
        wires = Channels(Http(GUARD), mail, "http://tocsin.test", slack=slack)
        outcome = await SlackIntegration().send(settings_, NOTIFICATION, wires)
        await slack.close()
    assert isinstance(outcome, Delivered)
    assert (outcome.receipt, len(there.asked)) == ({"written": [], "lost": []}, 1)


async def slack_did(answer: bytes) -> bool:
    """Whether Slack is taken to have posted a message, having answered like this and closed the connection."""
    async with serving(answer) as there:
        slack = Slack(settings.Slack("1", "secret", "secret", there.url, there.url))
        try:
            await slack.call("chat.postMessage", "xoxb-1", {})
        except SlackRefused as refusal:
            assert "answered 200" in str(refusal)  # noqa: PT017
            return False
        finally:
            await slack.close()
        return True


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
            target = Target(url, "http", 20, expected_status=[200])
            result = await perform(target, Wires(Dialer(GUARD, trusting), "Tocsin/test"))
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
