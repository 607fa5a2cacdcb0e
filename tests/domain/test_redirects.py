"""Where redirects lead, and what a trailing dot is for: as the standards say and curl does."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from tests.needed import program
from tests.recorder import LOOPBACK, here, recorder
from tocsin.checks import base as checks
from tocsin.checks.base import CheckContext
from tocsin.cli.sockets import free_port
from tocsin.domain import hosts, urls
from tocsin.domain.monitors import Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http

BASE = "http://example.com/b/c/d;p?q"
JOINED = [
    ("g", "http://example.com/b/c/g"), ("./g", "http://example.com/b/c/g"), ("g/", "http://example.com/b/c/g/"),
    ("/g", "http://example.com/g"), ("//other.example/g", "http://other.example/g"), ("?y", "http://example.com/b/c/d;p?y"),
    ("g?y", "http://example.com/b/c/g?y"), ("#s", "http://example.com/b/c/d;p?q"), ("g#s", "http://example.com/b/c/g"),
    (";x", "http://example.com/b/c/;x"), ("", "http://example.com/b/c/d;p?q"), (".", "http://example.com/b/c/"),
    ("..", "http://example.com/b/"), ("../g", "http://example.com/b/g"), ("../../../g", "http://example.com/g"),
    ("g?y/../x", "http://example.com/b/c/g?y/../x"), ("/a%3Ab?u=https%3A%2F%2Fx", "http://example.com/a%3Ab?u=https%3A%2F%2Fx"),
    ("https://user:pw@other.example:443/%2F", "https://other.example/%2F"), ("HTTP://EXAMPLE.com:80", "http://example.com/"),
    (" /with blanks ", "http://example.com/with%20blanks"), ("/?", "http://example.com/?"),
    ("http://straße.example/ß", "http://xn--strae-oqa.example/%C3%9F"),
]  # fmt: skip
"""RFC 3986, 5.4, and what sites send."""


@pytest.mark.parametrize(("location", "leads"), JOINED)
def test_a_redirect_leads_where_the_standard_says(location: str, leads: str) -> None:
    assert urls.follow(BASE, location.encode()) == leads


def test_bytes_of_any_charset_in_a_redirect_travel_on_as_they_are() -> None:
    assert urls.follow(BASE, b"/caf\xe9?\xc3\xa9") == "http://example.com/caf%E9?%C3%A9"


@pytest.mark.parametrize(
    "location",
    [b"javascript:alert(1)", b"mailto:a@example.com", b"http://", b"http:///x", b"http://\xff/", b"http://[fe80::1%25a]/",
     b"http://a..b/", b"//<b>/", b"http://example.com:0/", b"http://example.com:99999/", b"/" + b"a" * 8192],
)  # fmt: skip
def test_a_redirect_to_what_is_no_address_is_not_followed(location: bytes) -> None:
    with pytest.raises(hosts.Unreadable):
        urls.follow(BASE, location)


@pytest.mark.parametrize("location", ["/a%3Ab", "a%3Ab?x=%2F", "/caf\xe9", "/with blank", "../%2e/x?y", "?only=query"])
async def test_a_check_follows_a_redirect_to_where_curl_does(location: str) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: " + location.encode("latin-1") + b"\r\nConnection: close\r\n\r\n"
    async with recorder(moved) as (port, asked):
        url = f"http://example.com:{port}/x/y"
        target = checks.of(None, url).validate(Target(url, "http", 20))
        result = await checks.run_check(target, CheckContext(Dialer(Guard(LOOPBACK), resolve=here), "Tocsin/test"))
    assert result.ok, result.message
    ours = list(asked)
    async with recorder(moved) as (port, asked):
        command = [program("curl"), "--silent", "--location", "--connect-to", f"::127.0.0.1:{port}"]
        process = await asyncio.create_subprocess_exec(*command, f"http://example.com:{port}/x/y")
        assert await process.wait() == 0
    assert [line.lower() for line, _ in ours] == [line.lower() for line, _ in asked]


async def test_an_escape_in_a_redirect_makes_no_loop() -> None:
    """The site sends everybody to the escaped form, and would do so again to whoever asks for another."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        good = line.startswith(b"GET /a%3Ab ")
        writer.write(b"HTTP/1.1 204 Fine\r\n\r\n" if good else b"HTTP/1.1 301 Moved\r\nLocation: /a%3Ab\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a:b"
    result = await checks.run_check(Target(url, "http", 20), CheckContext(Dialer(Guard(LOOPBACK)), "Tocsin/test"))
    server.close()
    assert result.ok, result.message


async def test_what_fails_after_a_redirect_says_where() -> None:
    let_go = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        let_go.set()

    nobody, silent = free_port(), await asyncio.start_server(hold, "127.0.0.1", 0)
    broken = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with recorder(broken) as (bad, _):
        for port, said, timeout in (
            (nobody, "connection refused", 20), (bad, "HTTP status 500, expected 2xx", 20),
            (silent.sockets[0].getsockname()[1], "request timeout after 0.5 seconds", 0.5),
        ):  # fmt: skip
            there = f"http://127.0.0.1:{port}/there"
            moved = f"HTTP/1.1 302 Found\r\nLocation: {there}?token=t\r\nConnection: close\r\n\r\n".encode()
            async with recorder(moved) as (first, _):
                target = Target(f"http://127.0.0.1:{first}/", "http", timeout, {"expected_status": ["2xx"]})
                result = await checks.run_check(target, CheckContext(Dialer(Guard(LOOPBACK)), "Tocsin/test"))
            assert result.message == f"Redirected to {there}: {said}"
            assert result.evidence
            assert result.evidence.request == f"GET {there}?token=t"
    await asyncio.wait_for(let_go.wait(), 20)
    silent.close()


# ------------------------------------------------------------------------------------------------------- trailing dots


async def test_a_trailing_dot_is_for_name_servers_and_for_host_alone() -> None:
    """Asked for with it; SNI and certificate have none, as curl has it too."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("site.example").configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    looked_up: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> Any:
        looked_up.append(host)
        return here(host, port)

    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 Fine\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    url = f"https://site.example.:{port}/"
    http = Http(Guard(LOOPBACK), tls=trusting, resolve=resolve)
    assert (await http.post(url, b"", {})).status == 204
    context = CheckContext(Dialer(Guard(LOOPBACK), trusting, resolve), "Tocsin/test")
    result = await checks.run_check(Target(url, "http", 20), context)
    assert result.ok, result.message
    await http.close()
    with authority.cert_pem.tempfile() as bundle:
        command = [program("curl"), "--silent", "--cacert", bundle, "--connect-to", f"::127.0.0.1:{port}", url]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
    server.close()
    assert names == ["site.example"] * 3
    assert looked_up == ["site.example."] * 2
    assert [f"Host: site.example.:{port}".encode() in each for each in asked] == [True] * 3
