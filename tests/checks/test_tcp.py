"""What a port says: its banner, its answer, its certificate; compared with what openssl says of the same port."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from tests.curl import run
from tests.sites import AGENT, LOOPBACK, Talk, look, site
from tocsin.checks import base
from tocsin.checks.base import CheckContext
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard


def greets(*parts: bytes, waits_for: bytes = b"", stays: bool = True) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if waits_for:
            await reader.readuntil(waits_for)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if stays:
            await reader.read()

    return talk


async def test_a_banner_is_found_however_it_arrives() -> None:
    for parts in ([b"220 mail.example.com ESMTP\r\n"], [b"220 mail.exam", b"ple.com ES", b"MTP\r\n"]):
        async with site(greets(*parts)) as port:
            result = await look(f"tcp://127.0.0.1:{port}", expect="example.com ESMTP")
        assert result.ok
        assert result.response_ms is not None


async def test_what_is_sent_is_answered() -> None:
    async with site(greets(b"+PONG\r\n", waits_for=b"PING\r\n")) as port:
        assert (await look(f"tcp://127.0.0.1:{port}", send="PING\r\n", expect="+PONG")).ok


async def test_another_banner_is_bad_content_that_says_what_came() -> None:
    async with site(greets(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        result = await look(f"tcp://127.0.0.1:{port}", timeout=0.5, expect="ESMTP")
    assert result.problem == "content"
    assert result.message == (
        "Connected, but 'SSH-2.0-OpenSSH_9.2\\r\\n' came, expected 'ESMTP': look which service listens there"
    )


async def test_silence_is_a_timeout_and_a_closed_door_bad_content() -> None:
    async with site(greets()) as port:
        result = await look(f"tcp://127.0.0.1:{port}", timeout=1.0, expect="ESMTP")
    assert (result.problem, result.message) == (
        "timeout", "Connected, but nothing came within 1 s, expected 'ESMTP'",
    )  # fmt: skip
    async with site(greets(stays=False)) as port:
        result = await look(f"tcp://127.0.0.1:{port}", expect="ESMTP")
    assert result.problem == "content"
    assert result.message is not None
    assert result.message.startswith("Connected, but it was closed without a word")


async def test_a_port_that_talks_for_ever_is_read_up_to_a_limit() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"\xff" * 65_536)
            await writer.drain()

    async with site(endless) as port:
        result = await look(f"tcp://127.0.0.1:{port}", timeout=20, expect="never")
    assert result.problem == "content"
    assert result.message is not None
    assert len(result.message) < 500


async def test_tls_is_spoken_where_that_is_wanted_and_its_errors_say_why() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    context = CheckContext(Dialer(Guard(LOOPBACK), trusting), AGENT)
    for issuer, good in ((authority, True), (stranger, False)):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert("localhost").configure_cert(server)
        with authority.cert_pem.tempfile() as trusted:
            async with site(greets(b"* OK IMAP ready\r\n"), tls=server) as port:
                result = await look(f"tcp://localhost:{port}", context, tls=True, expect="* OK")
                code, _ = await run(
                    "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", trusted,
                    "-verify_return_error", "-servername", "localhost",
                )  # fmt: skip
        assert result.problem == (None if good else "tls_error"), result
        assert (code == 0) is good
    async with site(greets(b"220 hello\r\n")) as port:
        assert (await look(f"tcp://127.0.0.1:{port}", context, tls=True)).problem == "tls_error"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"send": ""}, "send"),
        ({"send": "a\x00"}, "send"),
        ({"send": "a" * 4_001}, "send"),
        ({"expect": ""}, "expect"),
        ({"expect": "a" * 501}, "expect"),
        ({"ip_version": 6}, "ip_version"),
    ],
)
def test_what_cannot_be_sent_or_heard_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.types()["tcp"].validate(Target("tcp://192.0.2.1:25", "tcp", 30, fields))
    assert [detail.field for detail in refused.value.details] == [field]
