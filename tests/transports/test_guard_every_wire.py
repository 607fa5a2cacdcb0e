"""The outbound guard, wire by wire: whatever calls an address that a project supplied asks it at the socket."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tocsin.checks import base as checks
from tocsin.domain.monitors import Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, Unreachable
from tocsin.transports.resolver import Resolve
from tocsin.transports.ssh import Login, Ssh, SshFailed

Call = Callable[[Guard, Resolve, str, int], Awaitable[str]]
"""One call to a host and port; what went wrong, in the words that people get."""


async def webhook(guard: Guard, resolve: Resolve, host: str, port: int) -> str:
    http = Http(guard, resolve=resolve)
    try:
        answer = await http.post(f"http://{_bracketed(host)}:{port}/", b"", {})
    except Unreachable as error:
        return str(error)
    finally:
        await http.close()
    return f"answered {answer.status}"


async def _check(kind: str, url: str, guard: Guard, resolve: Resolve) -> str:
    result = await checks.run_check(
        Target(url, kind, 5.0), checks.CheckContext(Dialer(guard, resolve=resolve), "Tocsin/test")
    )
    return result.message or "ok"


async def http_check(guard: Guard, resolve: Resolve, host: str, port: int) -> str:
    return await _check("http", f"http://{_bracketed(host)}:{port}/", guard, resolve)


async def tcp_check(guard: Guard, resolve: Resolve, host: str, port: int) -> str:
    return await _check("tcp", f"tcp://{_bracketed(host)}:{port}", guard, resolve)


async def ssh(guard: Guard, resolve: Resolve, host: str, port: int) -> str:
    try:
        async with Ssh(Dialer(guard, resolve=resolve)).login(Login(host, port, "admin", password="x"), None):
            return "logged in"
    except SshFailed as error:
        return str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


WIRES = [webhook, http_check, tcp_check, ssh]

every_wire = pytest.mark.parametrize("call", WIRES, ids=lambda call: call.__name__)


@asynccontextmanager
async def door() -> AsyncIterator[tuple[int, list[str]]]:
    """Something on loopback that must not be reached, and everybody who did. It says a word to each and hangs up."""
    visitors: list[str] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(writer.get_extra_info("sockname")[0])
        await _say(reader, writer, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    server = await asyncio.start_server(visit, "0.0.0.0", 0)
    try:
        yield server.sockets[0].getsockname()[1], visitors
    finally:
        server.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: str) -> None:
    """Say that, and wait for the other side to hang up."""
    try:
        writer.write(words.encode())
        writer.write_eof()
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


def answering(addresses: Iterator[str]) -> Resolve:
    """A name server that says something else each time it is asked."""

    def resolve(host: str, port: int, **_: Any) -> Any:
        return socket.getaddrinfo(next(addresses), port, type=socket.SOCK_STREAM)

    return resolve


@every_wire
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "localhost",
     "0.0.0.0", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"],
)  # fmt: skip
async def test_no_way_of_writing_this_machine_reaches_it(call: Call, host: str) -> None:
    async with door() as (port, visitors):
        said = await call(Guard(), socket.getaddrinfo, host, port)
    assert visitors == []
    assert "TOCSIN_ALLOW_NETWORKS=" in said or "usual address" in said


@every_wire
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1", "fd00::1",
     "168.63.129.16", "100.100.100.200", "192.0.0.8", "192.0.0.192", "192.0.0.9", "fd00:ec2::254", "fd20:ce::254",
     "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "64:ff9b:1::8.8.8.8", "2001:4:112::1", "::8.8.8.8",
     "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "2002:a00:1::1", "2001:0:808:808:0:0:f5ff:fffe"],
)  # fmt: skip
async def test_a_name_that_stands_for_a_private_address_in_any_form_is_refused(call: Call, address: str) -> None:
    async with door() as (port, visitors):
        said = await call(Guard(), answering(iter([address])), "internal.example", port)
    assert visitors == []
    assert "is not public" in said
    assert "TOCSIN_ALLOW_NETWORKS=" in said


@every_wire
@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
async def test_a_name_that_stands_for_this_machine_s_own_public_address_is_refused(call: Call, address: str) -> None:
    own = frozenset([ipaddress.ip_address(address)])
    async with door() as (port, visitors):
        said = await call(Guard(own=lambda: own), answering(iter([address])), "own.example", port)
    assert visitors == []
    assert f"{address} is this machine's own" in said
    assert "TOCSIN_ALLOW_NETWORKS=" in said


@every_wire
@pytest.mark.parametrize("host", ["fe80::1%lo", "::1%lo", "2606:4700::1111%eth0"])
async def test_a_zone_is_refused(call: Call, host: str) -> None:
    async with door() as (port, visitors):
        said = await call(Guard([ipaddress.ip_network("::/0")]), socket.getaddrinfo, host, port)
    assert visitors == []
    assert "names a zone" in said


@every_wire
async def test_a_name_whose_second_answer_differs_is_judged_by_the_answer_that_is_used(call: Call) -> None:
    """127.0.0.2 stands for what is public here: it alone is allowed."""
    guard = Guard([ipaddress.ip_network("127.0.0.2/32")])
    resolve = answering(iter(["127.0.0.2", "127.0.0.1"]))
    async with door() as (port, visitors):
        first = await call(guard, resolve, "rebinding.example", port)
        second = await call(guard, resolve, "rebinding.example", port)
    assert "is not public" not in first
    assert visitors == ["127.0.0.2"]
    assert "127.0.0.1 is not public" in second


@every_wire
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::ffff:127.0.0.1"])
async def test_what_the_operator_allows_is_reached(call: Call, host: str) -> None:
    async with door() as (port, visitors):
        said = await call(Guard([ipaddress.ip_network("127.0.0.0/8")]), socket.getaddrinfo, host, port)
    assert visitors == ["127.0.0.1"], said


async def _redirecting(call: Call, to: str) -> tuple[str, list[str]]:
    """What comes of calling a site that is allowed (127.0.0.2) and sends its callers to `to`, which is not."""
    async with door() as (port, visitors):

        async def send_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            location = to.format(port=port)
            await _say(reader, writer, f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")

        site = await asyncio.start_server(send_on, "127.0.0.2", 0)
        try:
            guard = Guard([ipaddress.ip_network("127.0.0.2/32")])
            said = await call(guard, socket.getaddrinfo, "127.0.0.2", site.sockets[0].getsockname()[1])
        finally:
            site.close()
    return said, visitors


@pytest.mark.parametrize("to", ["http://127.0.0.1:{port}/", "http://2130706433:{port}/", "http://[::1]:{port}/"])
async def test_a_check_is_not_led_inside_by_a_redirect(to: str) -> None:
    said, visitors = await _redirecting(http_check, to)
    assert visitors == []
    assert "TOCSIN_ALLOW_NETWORKS=" in said or "usual address" in said or "cannot be followed" in said


async def test_a_webhook_follows_no_redirect_at_all() -> None:
    said, visitors = await _redirecting(webhook, "http://127.0.0.2:{port}/")
    assert (said, visitors) == ("answered 302", [])
