"""Checks against real sites on loopback, in every way that a site can fail."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from tests.sites import AGENT, LOOPBACK, answer, look, redirects, says, site
from tocsin.checks import base
from tocsin.checks.base import CheckContext
from tocsin.cli.sockets import free_port
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Target
from tocsin.transports.dial import Dialer
from tocsin.transports.endpoint import endpoint
from tocsin.transports.guard import Guard


async def test_a_good_answer_is_a_good_check_with_its_time() -> None:
    asked: list[bytes] = []
    async with site(says(answer(), asked=asked)) as port:
        result = await look(f"http://127.0.0.1:{port}/health?deep=1#part")
    assert result.ok
    assert result.status_code == 200
    assert result.response_ms is not None
    assert 0 < result.response_ms < 5000
    assert result.evidence is None
    head = asked[0].decode().split("\r\n")
    assert head[:3] == ["GET /health?deep=1 HTTP/1.1", f"Host: 127.0.0.1:{port}", f"User-Agent: {AGENT}"]


async def test_a_bad_status_is_told_with_what_was_asked_and_answered() -> None:
    async with site(says(answer("500 Internal Server Error", **{"Content-Type": "text/html"}))) as port:
        url = f"http://127.0.0.1:{port}/"
        result = await look(url)
    assert (result.problem, result.message) == ("http_status", "HTTP status 500, expected 2xx")
    assert result.status_code == 500
    assert result.evidence is not None
    assert result.evidence.request == f"GET {url}"
    assert result.evidence.request_headers is not None
    assert result.evidence.request_headers["User-Agent"] == AGENT
    assert result.evidence.response == "500 Internal Server Error"
    assert result.evidence.response_headers == {"Content-Length": "4", "Content-Type": "text/html"}


async def test_the_expected_status_decides() -> None:
    async with site(says(answer("404 Not Found"))) as port:
        url = f"http://127.0.0.1:{port}/"
        assert (await look(url, expected_status=[404, 410])).ok
        assert (await look(url, expected_status="4xx")).ok
        assert (await look(url, expected_status=[200, 204])).message == "HTTP status 404, expected 200 or 204"


async def test_nobody_listening_is_connection_refused() -> None:
    for url in (f"http://127.0.0.1:{free_port()}/", f"tcp://127.0.0.1:{free_port()}"):
        result = await look(url)
        assert (result.problem, result.message) == ("connection_error", "Connection refused")
        assert result.evidence is not None
        assert result.evidence.response is None


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200 OK\r\nContent-Len"]])
async def test_a_site_that_hangs_ends_in_the_specifications_words(parts: list[bytes]) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await reader.read()

    async with site(hang) as port:
        result = await look(f"http://127.0.0.1:{port}/", timeout=0.2)
        assert (result.problem, result.message) == ("timeout", "Request timeout after 0.2 seconds")
        assert result.evidence is not None
        assert result.evidence.request == f"GET http://127.0.0.1:{port}/"
        result = await look(f"http://127.0.0.1:{port}/", timeout=1)
        assert result.message == "Request timeout after 1 second"


async def test_an_answer_that_trickles_does_not_stretch_the_time_out() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: 1\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with site(trickle) as port:
        assert (await look(f"http://127.0.0.1:{port}/", timeout=0.3)).problem == "timeout"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "Connection closed before the answer was complete"),
        ([b"HTTP/1.1 200 OK\r\n"], "Connection closed before the answer was complete"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "The answer is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000], "The headers are longer than 64 KiB"),
    ],
)
async def test_what_is_no_complete_answer_is_a_connection_error(parts: list[bytes], message: str) -> None:
    async with site(says(*parts)) as port:
        result = await look(f"http://127.0.0.1:{port}/")
    assert (result.problem, result.message) == ("connection_error", message)


async def test_a_connection_that_is_reset_is_a_connection_error() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    async with site(reset) as port:
        result = await look(f"http://127.0.0.1:{port}/")
    assert (result.problem, result.message) == ("connection_error", "Connection reset by the other side")


async def test_a_name_that_does_not_exist_is_a_dns_error() -> None:
    for url in ("http://no-such-name.invalid/", "tcp://no-such-name.invalid:80"):
        result = await look(url, timeout=20)
        assert result.problem == "dns_error"
        assert result.message is not None
        assert result.message.startswith("Could not resolve no-such-name.invalid: ")


async def test_a_site_on_ipv6_is_reached_and_one_of_two_addresses_is_enough() -> None:
    async with site(says(answer()), host="::1") as port:
        assert (await look(f"http://[::1]:{port}/")).ok
        assert (await look(f"tcp://[::1]:{port}")).ok
    async with site(says(answer())) as port:
        assert (await look(f"http://localhost:{port}/")).ok  # where ::1 refuses, 127.0.0.1 answers


async def test_a_redirect_to_an_address_that_may_not_be_reached_is_stopped_at_the_socket() -> None:
    async with site(redirects(lambda path: "http://169.254.169.254/latest/meta-data", [])) as port:
        result = await look(f"http://127.0.0.1:{port}/")
    assert result.problem == "connection_error"
    assert result.message is not None
    assert "169.254.169.254" in result.message
    assert "TOCSIN_ALLOW_NETWORKS" in result.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "http://localhost:{}/", "http://2130706433:{}/", "tcp://127.1:{}"])
async def test_without_permission_nothing_local_is_reached_however_it_is_written(url: str) -> None:
    asked: list[bytes] = []
    async with site(says(answer(), asked=asked)) as port:
        result = await look(url.format(port), CheckContext(Dialer(Guard()), AGENT))
    assert result.problem == "connection_error"
    assert result.message is not None
    assert "the operator can allow it with TOCSIN_ALLOW_NETWORKS=" in result.message
    assert asked == []


# -------------------------------------------------------------------------------------------------------------- keyword


def chunked(*parts: bytes) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


@pytest.mark.parametrize(
    "parts",
    [
        [answer(body=b"all is well here")],
        [answer(body=b"all is well here")[:-8], b"ell here"],
        chunked(b"all is w", b"ell here"),
        chunked(b"a", b"ll is", b" ", b"w", b"e", b"l", b"l"),
        [b"HTTP/1.0 200 OK\r\n\r\nall ", b"is well"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", answer(body=b"all is well")],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(body=b"all is well")],
    ],
)
async def test_a_keyword_is_found_however_the_body_arrives(parts: list[bytes]) -> None:
    async with site(says(*parts)) as port:
        assert (await look(f"http://127.0.0.1:{port}/", keyword="is well")).ok
        missing = await look(f"http://127.0.0.1:{port}/", keyword="is bad")
    assert (missing.problem, missing.message) == ("keyword", "Keyword 'is bad' not found")
    assert missing.status_code == 200


async def test_a_keyword_is_looked_for_in_the_charset_of_the_page() -> None:
    page = answer(body="größer".encode("latin-1"), **{"Content-Type": 'text/html; charset="ISO-8859-1"'})
    async with site(says(page)) as port:
        assert (await look(f"http://127.0.0.1:{port}/", keyword="größer")).ok


async def test_a_keyword_is_looked_for_in_the_first_mebibyte_only() -> None:
    async with site(says(answer(body=b"." * (1 << 20) + b"late"))) as port:
        assert (await look(f"http://127.0.0.1:{port}/", keyword="late")).problem == "keyword"
    async with site(says(answer(body=b"." * ((1 << 20) - 4) + b"late"))) as port:
        assert (await look(f"http://127.0.0.1:{port}/", keyword="late")).ok


async def test_a_body_that_is_cut_before_the_keyword_came_is_a_connection_error() -> None:
    for parts in ([answer(body=b"all is well")[:-3]], chunked(b"all is w", b"ell")[:2]):
        async with site(says(*parts)) as port:
            result = await look(f"http://127.0.0.1:{port}/", keyword="well")
        assert (result.problem, result.message) == (
            "connection_error", "Connection closed before the answer was complete",
        )  # fmt: skip


async def test_a_bad_status_comes_before_the_keyword() -> None:
    async with site(says(answer("503 Service Unavailable", body=b"all is well"))) as port:
        assert (await look(f"http://127.0.0.1:{port}/", keyword="well")).problem == "http_status"


# ------------------------------------------------------------------------------------------------------------------ TLS


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_certificate_that_is_trusted_is_fine_and_others_are_tls_errors_that_say_why() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    context = CheckContext(Dialer(Guard(LOOPBACK), trusting), AGENT)
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    cases = [
        (authority.issue_cert("localhost"), None),
        (stranger.issue_cert("localhost"), "TLS error: unable to get local issuer certificate"),
        (authority.issue_cert("localhost", not_after=yesterday), "TLS error: certificate has expired"),
        (
            authority.issue_cert("www.example.com"),
            "TLS error: Hostname mismatch, certificate is not valid for 'localhost'",
        ),
    ]
    for certificate, message in cases:
        async with site(says(answer()), tls=server_context(certificate)) as port:
            result = await look(f"https://localhost:{port}/", context)
        assert (result.problem, result.message) == ("tls_error" if message else None, message)


async def test_a_site_without_tls_behind_an_https_address_is_a_tls_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with site(talk) as port:
        result = await look(f"https://127.0.0.1:{port}/")
    assert result.problem == "tls_error"


async def test_a_keyword_is_found_over_tls() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with site(says(*chunked(b"all is", b" well")), tls=server_context(authority.issue_cert("127.0.0.1"))) as port:
        context = CheckContext(Dialer(Guard(LOOPBACK), trusting), AGENT)
        assert (await look(f"https://127.0.0.1:{port}/", context, keyword="is well")).ok


# ----------------------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("", "url"),
        ("example.com", "url"),
        ("ftp://example.com", "url"),
        ("http://", "url"),
        ("http:///path", "url"),
        ("http://example.com:99999/", "url"),
        ("http://example.com:0/", "url"),
        ("http://exa mple.com/", "url"),
        ("http://example.com/\r\nX: y", "url"),
        ("https://user:secret@example.com/", "url"),
        ("http://[::1/", "url"),
        ("https://example.com/" + "x" * 2000, "url"),
        ("tcp://example.com", "url"),
        ("tcp://:80", "url"),
        ("tcp://example.com:0", "url"),
        ("tcp://example.com:80/path", "url"),
        ("tcp://example.com:port", "url"),
        ("tcp://user@example.com:80", "url"),
    ],
)
def test_an_address_that_cannot_be_looked_at_is_refused_by_name(url: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.of(None, url).validate(Target(url, "", 30))
    assert [detail.field for detail in refused.value.details] == [field]


def test_a_type_that_nobody_knows_is_refused_with_those_that_exist() -> None:
    with pytest.raises(Refused, match="use one of: dns, http, ping, tcp, tls"):
        base.of("carrier_pigeon", "https://example.com")


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("https://bücher.example/ä?q=ö", b"GET /%C3%A4?q=%C3%B6 HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n"),
        ("http://example.com", b"GET / HTTP/1.1\r\nHost: example.com\r\n"),
        ("http://example.com:8080/a%20b", b"GET /a%20b HTTP/1.1\r\nHost: example.com:8080\r\n"),
        ("https://[2001:db8::1]/", b"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n"),
    ],
)
def test_addresses_are_asked_for_as_the_protocol_writes_them(url: str, start: bytes) -> None:
    assert endpoint(url, "GET").start == start


@pytest.mark.parametrize(
    "told",
    [
        test_a_good_answer_is_a_good_check_with_its_time,
        test_nobody_listening_is_connection_refused,
        test_an_answer_that_trickles_does_not_stretch_the_time_out,
        test_a_connection_that_is_reset_is_a_connection_error,
        test_a_site_on_ipv6_is_reached_and_one_of_two_addresses_is_enough,
        test_a_redirect_to_an_address_that_may_not_be_reached_is_stopped_at_the_socket,
        test_a_keyword_is_looked_for_in_the_first_mebibyte_only,
        test_a_body_that_is_cut_before_the_keyword_came_is_a_connection_error,
        test_a_certificate_that_is_trusted_is_fine_and_others_are_tls_errors_that_say_why,
        test_a_site_without_tls_behind_an_https_address_is_a_tls_error,
        test_a_keyword_is_found_over_tls,
    ],
)
def test_the_faster_loop_of_the_engine_tells_the_same(told: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(told())
