"""Handshakes with real servers on loopback, beside what `openssl s_client` says of the very same."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests import needed
from tests.certificates import Issued, issue, root
from tests.sites import AGENT, LOOPBACK, Talk, look, site
from tocsin.checks import base
from tocsin.checks.base import CheckContext
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Result, Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

YEAR, DAY = timedelta(days=365), timedelta(days=1)
ROOT = root()
BETWEEN = issue("Intermediate CA", ROOT, YEAR, YEAR / 2, authority=True)
GOOD = issue("localhost", BETWEEN, YEAR, YEAR / 2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "root.pem"
    path.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    return path


def context(guard: Guard | None = None) -> CheckContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=ROOT.certificate.public_bytes(Encoding.DER))
    return CheckContext(Dialer(guard or Guard(LOOPBACK), tls), AGENT)


async def handshake(port: int, *, query: str = "", timeout: float = 5.0, **fields: Any) -> Result:
    fields = {"server_name": "localhost", **fields}
    return await look(f"tls://127.0.0.1:{port}{query}", context(), timeout=timeout, **fields)


async def openssl(port: int, authority: Path, *more: str, name: str = "localhost") -> tuple[int, str]:
    """The code and words of its verification; -1 where there was no handshake."""
    ran = await asyncio.create_subprocess_exec(
        needed.program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
        "-verify_hostname", name, "-CAfile", str(authority), *more,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    said = (await asyncio.wait_for(ran.communicate(), 20))[0].decode("utf-8", "replace")
    found = re.search(r"Verify return code: (\d+) \((.*)\)", said)
    return (int(found[1]), found[2]) if found and "BEGIN CERTIFICATE" in said else (-1, said[:200])


async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_certificate_that_is_fine_is_a_good_check_with_its_time(authority: Path) -> None:
    async with site(waits, tls=GOOD.server()) as port:
        result = await handshake(port)
        assert await openssl(port, authority) == (0, "ok")
    assert result.ok, result
    assert result.findings == ()
    assert result.response_ms is not None
    assert result.evidence is None


EXPIRED = issue("localhost", BETWEEN, YEAR, -DAY)
EARLY = issue("localhost", BETWEEN, YEAR, YEAR + DAY)
OTHER = issue("shop.example.com", BETWEEN, YEAR, YEAR / 2)
ALONE = replace(GOOD, above=())
ITS_OWN = issue("localhost", None, YEAR, YEAR / 2)
STRANGER = root()
BY_STRANGER = replace(foreign := issue("localhost", STRANGER, YEAR, YEAR / 2), above=(STRANGER.certificate,))
OLD_BETWEEN = issue("Old CA", ROOT, YEAR, -DAY, authority=True)


@pytest.mark.parametrize(
    ("served", "codes", "words"),
    [
        (EXPIRED, (10,), r"The certificate for localhost expired on \d{4}-\d\d-\d\d at \d\d:\d\d UTC: renew it"),
        (EARLY, (9,), r"The certificate for localhost is valid only from .* UTC: are the clocks right\?"),
        (issue("localhost", OLD_BETWEEN, YEAR, YEAR / 2), (10,),
         r"The authority's certificate Old CA expired on \d{4}-.* UTC: renew it"),
        (OTHER, (62,), r"The certificate is for another name: for shop\.example\.com, not for localhost"),
        (ALONE, (20, 21), r"An intermediate certificate is missing: the server does not send that of Intermediate CA, "
         r"which issued its own\. It must send the whole chain \(or that authority is not trusted here\)"),
        (ITS_OWN, (18,), r"The certificate for localhost is self-signed: no authority vouches for it"),
        (BY_STRANGER, (19,), r"The certificate for localhost comes from an authority that this system does not trust: "
         r"Root"),
    ],
    ids=["expired", "early", "expired above", "other name", "no intermediate", "self-signed", "unknown authority"],
)  # fmt: skip
async def test_a_certificate_that_openssl_refuses_is_a_tls_error_in_words(
    authority: Path, served: Issued, codes: tuple[int, ...], words: str
) -> None:
    async with site(waits, tls=served.server()) as port:
        result = await handshake(port)
        theirs = await openssl(port, authority)
    assert theirs[0] in codes
    assert result.problem == "tls_error"
    assert re.fullmatch(words, result.message or ""), result.message
    assert result.evidence is not None
    assert (result.evidence.response or "").startswith(f"{'shop.example.com' if served is OTHER else 'localhost'}, by ")
    assert result.findings is None


async def test_the_name_is_the_hosts_unless_another_is_given(authority: Path) -> None:
    async with site(waits, tls=GOOD.server()) as port:
        assert (await look(f"tls://localhost:{port}", context())).ok
        assert (await handshake(port, server_name="LOCALHOST.")).ok
        result = await look(f"tls://127.0.0.1:{port}", context())
        assert (result.problem, result.message) == (
            "tls_error", "The certificate is for another name: for localhost, not for 127.0.0.1",
        )  # fmt: skip
        assert (await openssl(port, authority, name="other.example"))[0] == 62
        assert (await handshake(port, server_name="other.example")).problem == "tls_error"


@pytest.mark.parametrize(
    ("left", "tls_days", "severity"),
    [
        (YEAR / 2, 30, None), (25 * DAY, 30, "warning"), (25 * DAY, 14, None), (25 * DAY, 0, None),
        (2 * DAY, 30, "critical"),
    ],
)
async def test_a_certificate_that_ends_soon_is_found_beside_a_good_check(
    left: timedelta, tls_days: int, severity: str | None
) -> None:
    served = issue("localhost", BETWEEN, YEAR, left)
    async with site(waits, tls=served.server()) as port:
        result = await handshake(port, tls_days=tls_days)
    assert result.ok
    assert result.findings is not None
    assert [(each.type, each.severity) for each in result.findings] == ([("tls_expiry", severity)] if severity else [])


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "It does not speak TLS there: it says 'SSH-2.0-OpenSSH_9.2'"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "It does not speak TLS there: it says 'HTTP/1.1 400 Bad Request'"),
        (b"", "The connection was closed in the handshake: is TLS spoken there?"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "No TLS handshake: the other side accepts none of our parameters "
         "(or wants a client certificate)"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "No TLS handshake: the other side speaks no version of TLS that we do "
         "(1.2 and 1.3)"),
    ],
)  # fmt: skip
async def test_what_speaks_no_tls_is_a_tls_error_that_says_what_it_said(
    authority: Path, says: bytes, words: str
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(says)
        writer.close()
        await writer.wait_closed()

    async with site(talk) as port:
        result = await handshake(port)
        assert (await openssl(port, authority))[0] == -1
    assert (result.problem, result.message) == ("tls_error", words)


async def test_certificates_of_a_megabyte_are_refused() -> None:
    huge = issue("localhost", BETWEEN, YEAR, YEAR / 2)
    comment = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(1 << 20))
    made = (
        x509.CertificateBuilder().subject_name(huge.certificate.subject).issuer_name(BETWEEN.certificate.subject)
        .public_key(huge.key.public_key()).serial_number(7)
        .not_valid_before(huge.certificate.not_valid_before_utc).not_valid_after(huge.certificate.not_valid_after_utc)
        .add_extension(comment, critical=False).sign(BETWEEN.key, SHA256())
    )  # fmt: skip
    async with site(waits, tls=replace(huge, certificate=made).server()) as port:
        result = await handshake(port)
    words = "No TLS handshake: its certificates are longer than 100 KiB"
    assert (result.problem, result.message) == ("tls_error", words)


def _trickles(first: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(b"\x16\x03\x03\x00\x01\x02" if not first else b"2")
            await writer.drain()
            await asyncio.sleep(0.02)

    return talk


@pytest.mark.parametrize("talk", [waits, _trickles(b"\x16\x03\x03\x40\x00\x02")])
async def test_silent_and_slow_servers_are_timeouts(talk: Talk) -> None:
    async with site(talk) as port:
        result = await handshake(port, timeout=0.4)
    assert (result.problem, result.message) == ("timeout", "Request timeout after 0.4 seconds")


async def test_nobody_there_and_addresses_that_may_not_be_reached_say_so() -> None:
    async with site(waits) as port:
        pass
    assert (await handshake(port)).message == "Connection refused"
    result = await look(f"tls://127.0.0.1:{port}", context(Guard()))
    assert result.problem == "connection_error"
    assert "TOCSIN_ALLOW_NETWORKS" in (result.message or "")


def _mail(tls: ssl.SSLContext, greeting: str, answers: Callable[[str], tuple[str, bool]]) -> Talk:
    """A mail server: what it answers to each line, and whether TLS begins then."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting.encode())
        while line := await reader.readline():
            answer, begin = answers(line.decode().strip())
            writer.write(answer.encode())
            await writer.drain()
            if begin:
                with contextlib.suppress(ssl.SSLError):
                    await writer.start_tls(tls)
                    await reader.read()
                return

    return talk


def _smtp(line: str) -> tuple[str, bool]:
    if line.upper().startswith("EHLO"):
        return "250-mx.example.com greets you\r\n250-SIZE 1000\r\n250 STARTTLS\r\n", False
    return ("220 go ahead\r\n", True) if line.upper() == "STARTTLS" else ("502 no\r\n", False)


def _imap(line: str) -> tuple[str, bool]:
    tag, _, command = line.partition(" ")
    if command.upper() == "STARTTLS":
        return f"{tag} OK begin\r\n", True
    return f"* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK done\r\n", False


def _pop3(line: str) -> tuple[str, bool]:
    return ("+OK begin\r\n", True) if line.upper() == "STLS" else ("+OK\r\nSTLS\r\n.\r\n", False)


@pytest.mark.parametrize(
    ("protocol", "greeting", "answers"),
    [
        ("smtp", "220-mx.example.com ESMTP\r\n220 welcome\r\n", _smtp),
        ("imap", "* OK IMAP4rev1 ready\r\n", _imap),
        ("pop3", "+OK ready\r\n", _pop3),
    ],
)
@pytest.mark.parametrize("served", [GOOD, EXPIRED], ids=["good", "expired"])
async def test_mail_servers_are_asked_to_start_tls_as_openssl_does(
    authority: Path, protocol: str, greeting: str, answers: Any, served: Issued
) -> None:
    async with site(_mail(served.server(), greeting, answers)) as port:
        result = await handshake(port, query=f"?starttls={protocol}")
        theirs = await openssl(port, authority, "-starttls", protocol)
    assert (result.ok, theirs[0]) == ((True, 0) if served is GOOD else (False, 10)), (result, theirs)


@pytest.mark.parametrize(
    ("protocol", "greeting", "answer", "words"),
    [
        ("smtp", "554 go away\r\n", "", "to a new connection it says '554 go away'"),
        ("smtp", "220 hello\r\n", "250 mx.example.com\r\n", "It does not offer STARTTLS"),
        ("smtp", "220 " + "x" * 3000, "", "a line of over 2,000 bytes"),
        ("smtp", "220-more\r\n" * 200, "", "more than 100 lines"),
        ("imap", "* BYE full\r\n", "", "it begins with '* BYE full'"),
        ("imap", "* OK hello\r\n", "t1 NO not today\r\n", "to STARTTLS it says 't1 NO not today'"),
        ("pop3", "+OK hello\r\n", "-ERR unknown\r\n", "to STLS it says '-ERR unknown'"),
    ],
)
async def test_a_mail_server_that_does_not_start_tls_says_what_it_said(
    protocol: str, greeting: str, answer: str, words: str
) -> None:
    async with site(_mail(GOOD.server(), greeting, lambda _: (answer, False))) as port:
        result = await handshake(port, query=f"?starttls={protocol}")
    assert result.problem == "tls_error"
    assert words in (result.message or "")


@pytest.mark.parametrize(
    ("url", "fields", "field"),
    [
        ("tls://127.0.0.1", {}, "url"),
        ("tls://127.0.0.1:443/path", {}, "url"),
        ("tls://user@127.0.0.1:443", {}, "url"),
        ("tls://127.0.0.1:443?starttls=ftp", {}, "url"),
        ("tls://127.0.0.1:443", {"tls_days": -1}, "tls_days"),
        ("tls://127.0.0.1:443", {"tls_days": 366}, "tls_days"),
        ("tls://127.0.0.1:443", {"server_name": "a b"}, "server_name"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_the_field(url: str, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.types()["tls"].validate(Target(url, "tls", 5.0, fields))
    assert [detail.field for detail in refused.value.details] == [field]
