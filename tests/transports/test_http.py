"""Posts over the wire: bounded, honest about what went wrong, and over connections that are kept."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import trustme

from tests.receivers import Answer, Receiver
from tocsin.cli.sockets import free_port
from tocsin.transports.dial import public_authorities
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, Unreachable

GUARD = Guard([ipaddress.ip_network("127.0.0.0/8")])


@pytest_asyncio.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(GUARD)
    yield http
    await http.close()


async def failure(http: Http, url: str) -> str:
    with pytest.raises(Unreachable) as failed:
        await http.post(url, b"{}", {})
    return str(failed.value)


async def test_what_is_posted_arrives_with_these_headers_and_no_others(http: Http, receiver: Receiver) -> None:
    answer = await http.post(receiver.url("/a?b=c"), b'{"x": 1}', {"Content-Type": "application/json", "X-One": "1"})
    assert (answer.status, answer.text) == (200, "ok")
    [request] = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/a?b=c", b'{"x": 1}')
    assert set(request.headers) == {"host", "content-length", "content-type", "x-one"}


async def test_a_redirect_is_an_answer_and_is_not_followed(http: Http, receiver: Receiver) -> None:
    receiver.answers["/hook"] = Answer(302, {"Location": receiver.url("/elsewhere")})
    assert (await http.post(receiver.url(), b"", {})).status == 302
    assert receiver.to("/elsewhere") == []


async def test_cookies_are_not_kept(http: Http, receiver: Receiver) -> None:
    receiver.otherwise = Answer(headers={"Set-Cookie": "a=b"})
    for _ in range(2):
        await http.post(receiver.url(), b"", {})
    assert "cookie" not in receiver.requests[1].headers


async def test_proxy_variables_are_not_obeyed(http: Http, receiver: Receiver, monkeypatch: Any) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await http.post(receiver.url(), b"", {})).status == 200


async def test_two_kilobytes_of_the_answer_are_kept(http: Http, receiver: Receiver) -> None:
    receiver.then(Answer(body=b"a" * 2048), Answer(body=b"b" * 5_000_000))
    assert (await http.post(receiver.url(), b"", {})).text == "a" * 2048
    assert (await http.post(receiver.url(), b"", {})).text == "b" * 2048


async def test_an_answer_that_is_no_text_becomes_text(http: Http, receiver: Receiver) -> None:
    receiver.then(Answer(body=b"a\x00b\xff\xfe"))
    assert (await http.post(receiver.url(), b"", {})).text == "ab��"


async def test_a_body_that_breaks_off_leaves_the_status_as_it_is(http: Http) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    async with server:
        answer = await http.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"", {})
    assert (answer.status, answer.text) == (200, "begun")


async def test_an_answer_that_breaks_off_in_its_head_is_none(http: Http, receiver: Receiver) -> None:
    receiver.then(Answer(how="cut"))
    assert await failure(http, receiver.url()) == "Connection was closed before an answer"


async def test_failures_are_told_in_plain_words(http: Http, receiver: Receiver) -> None:
    port = free_port()
    assert await failure(http, f"http://127.0.0.1:{port}/s3cret") == f"Connection refused by 127.0.0.1:{port}"
    unknown = await failure(http, "http://nowhere.invalid/s3cret")
    assert unknown == "Could not resolve nowhere.invalid: Name or service not known"
    receiver.then(Answer(how="reset"))
    assert await failure(http, receiver.url()) == "Connection was closed before an answer"


async def test_something_that_is_not_http_is_said_to_be_so(http: Http) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await failure(http, f"http://127.0.0.1:{port}/") == "The answer is not HTTP"


async def test_a_destination_that_hangs_is_left_after_ten_seconds(http: Http, receiver: Receiver) -> None:
    receiver.then(Answer(how="hang"))
    began = time.monotonic()
    assert await failure(http, receiver.url()) == "No answer within 10 seconds"
    assert time.monotonic() - began < 11


async def test_connections_are_kept_and_used_again() -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2 if b"Content-Length: 2" in head else 0)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        http = Http(GUARD)
        for _ in range(20):
            assert (await http.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"{}", {})).status == 204
        await http.close()
        await ended.wait()
    assert connections == 1


@pytest.mark.parametrize("surplus", [b"ok", b"HTTP/1.1 200 OK\r\nContent-Length: 9"])
async def test_what_comes_too_much_after_an_answer_spoils_no_later_one(http: Http, surplus: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" + surplus)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert [(await http.post(url, b"", {})).status for _ in range(3)] == [204, 204, 204]
        await http.close()


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ({"identities": ["127.0.0.1"]}, True, None),
        ({"identities": ["127.0.0.1"]}, False, "TLS: unable to get local issuer certificate"),
        ({"identities": ["other.example.com"]}, True, "TLS: IP address mismatch"),
        ({"identities": ["127.0.0.1"], "expired": True}, True, "TLS: certificate has expired"),
    ],
)
async def test_certificates_are_checked(certificate: dict[str, Any], trusted: bool, words: str | None) -> None:
    from datetime import UTC, datetime

    authority = trustme.CA()
    dates = {"not_before": datetime(2019, 1, 1, tzinfo=UTC), "not_after": datetime(2020, 1, 1, tzinfo=UTC)}
    issued = authority.issue_cert(*certificate["identities"], **(dates if certificate.get("expired") else {}))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(serving)
    calling = ssl.create_default_context()
    if trusted:
        authority.configure_trust(calling)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving)
    http = Http(GUARD, tls=calling)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if words is None:
            assert (await http.post(url, b"", {})).status == 204
            await ended.wait()
        else:
            assert (await failure(http, url)).startswith(words)
        await http.close()


async def test_tls_towards_a_plain_server_says_so(http: Http) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        said = await failure(http, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert said.startswith(("TLS:", "Connection was closed"))


async def test_a_client_is_made_without_reading_the_authorities_that_the_system_trusts() -> None:
    start = time.thread_time()
    for _ in range(100):
        Http(GUARD)
    assert time.thread_time() - start < 0.1  # one reading takes 20 ms or more


async def test_the_authorities_are_read_once_and_beside_the_event_loop(http: Http) -> None:
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    public_authorities.cache_clear()
    start = time.thread_time()
    try:
        for _ in range(3):
            assert "certificate" in await failure(http, url)
            assert "certificate" in await failure(Http(GUARD), url)
    finally:
        server.close()
    assert public_authorities.cache_info().misses == 1
    assert time.thread_time() - start < 1
