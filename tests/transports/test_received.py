"""What was received counts: a status is an answer, and what was taken is not sent twice."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.odd_answers import GUARD, MEBIBYTE, PLAIN, TWO, How, chunks, http, posted, said, serving
from tocsin import settings
from tocsin.domain.deliveries import Delivered
from tocsin.domain.incidents import Notification
from tocsin.integrations.base import Transports as Channels
from tocsin.integrations.slack import SlackIntegration
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.transports.http import Answer, Http
from tocsin.transports.response import HEAD_LIMIT, Response
from tocsin.transports.slack import Slack, SlackRefused
from tocsin.transports.sms.twilio import Twilio
from tocsin.transports.smtp import Mailer

__all__ = ["http"]

NOTIFICATION = Notification("DLV1", "opened", "INC1", "Server", "web-1", "", "cpu", "CPU at 97 %", datetime.now(UTC))


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
    assert (outcome.receipt, len(there.asked)) == ({"written": [], "lost": [], "has_it": None}, 1)


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
