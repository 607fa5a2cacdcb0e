"""TLS handshakes for their own sake: who the other side is, and why it cannot be trusted. Also after STARTTLS.

What a connection brings until its handshake is complete is bounded in bytes; its caller bounds the time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Literal

from tocsin.transports.dial import Dialer

StartTls = Literal["smtp", "imap", "pop3"]

LIMIT = 256 << 10
"""Bytes of a handshake. OpenSSL itself takes 100 KiB of certificates."""
MAX_LINE, MAX_LINES = 2_000, 100
"""Of what a mail server says before TLS."""
_RECORDS = frozenset(range(0x14, 0x18))
"""The first bytes of TLS records (RFC 8446, 5.1)."""


class NotTls(Exception):
    """The other side speaks something else, or not yet; the text says what it said."""


async def shake_hands(
    dialer: Dialer, host: str, port: int, name: str, context: ssl.SSLContext, starttls: StartTls | None = None
) -> ssl.SSLObject:
    """A connection whose handshake was completed, and which is closed again.

    Raises `NotTls`, and what `Dialer.connect` raises.
    """
    reader = asyncio.StreamReader(limit=MAX_LINE)
    transport, _ = await dialer.connect(lambda: asyncio.StreamReaderProtocol(reader), host, port)
    try:
        if starttls is not None:
            await _ASK[starttls](_Lines(reader, transport))
        return await _shake(reader, transport, context, name)
    finally:
        transport.abort()


async def _shake(
    reader: asyncio.StreamReader, transport: asyncio.Transport, context: ssl.SSLContext, name: str
) -> ssl.SSLObject:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    first, total = b"", 0
    while True:
        try:
            tls.do_handshake()
            return tls
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError:
            if first and first[0] not in _RECORDS:
                raise NotTls(f"It does not speak TLS there: it says {_shown(first)}") from None
            raise
        finally:
            if said := outgoing.read():
                transport.write(said)
        data = await reader.read(1 << 14)
        if not data:
            if first and first[0] not in _RECORDS:
                raise NotTls(f"It does not speak TLS there: it says {_shown(first)}")
            raise ConnectionAbortedError("closed in the handshake")
        first = first or data
        total += len(data)
        if total > LIMIT:
            raise NotTls(f"It sends more than {LIMIT >> 10} KiB before the TLS handshake is complete")
        incoming.write(data)


class _Lines:
    """What is said in lines before TLS."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.Transport) -> None:
        self._reader, self._transport = reader, transport

    def say(self, line: str) -> None:
        self._transport.write(f"{line}\r\n".encode("ascii"))

    async def hear(self, last: Callable[[bytes], bool]) -> list[bytes]:
        """The lines up to one that is the last of an answer."""
        heard: list[bytes] = []
        while len(heard) < MAX_LINES:
            try:
                line = await self._reader.readline()
            except ValueError:
                raise NotTls(f"It says a line of over {MAX_LINE:,} bytes before TLS") from None
            if not line.endswith(b"\n"):
                raise ConnectionAbortedError("closed before TLS")
            heard.append(line.rstrip(b"\r\n"))
            if last(line):
                return heard
        raise NotTls(f"It says more than {MAX_LINES} lines before TLS")


async def _smtp(lines: _Lines) -> None:
    """RFC 3207."""

    async def answer(code: bytes, to: str) -> list[bytes]:
        heard = await lines.hear(lambda line: line[3:4] != b"-")
        if not heard[-1].startswith(code):
            raise NotTls(f"It does not speak SMTP as it should: to {to} it says {_shown(heard[-1])}")
        return heard

    await answer(b"220", "a new connection")
    lines.say("EHLO tocsin.invalid")
    offered = await answer(b"250", "EHLO")
    if not any(line[4:].strip().upper() == b"STARTTLS" for line in offered):
        raise NotTls("It does not offer STARTTLS: EHLO is answered without it")
    lines.say("STARTTLS")
    await answer(b"220", "STARTTLS")


async def _imap(lines: _Lines) -> None:
    """RFC 9051, 6.2.1."""
    greeting = (await lines.hear(lambda _: True))[0]
    if not greeting.upper().startswith(b"* OK"):
        raise NotTls(f"It does not speak IMAP as it should: it begins with {_shown(greeting)}")
    lines.say("t1 STARTTLS")
    answer = (await lines.hear(lambda line: not line.startswith(b"*")))[-1]
    if not answer.upper().startswith(b"T1 OK"):
        raise NotTls(f"It does not start TLS: to STARTTLS it says {_shown(answer)}")


async def _pop3(lines: _Lines) -> None:
    """RFC 2595, 4."""
    greeting = (await lines.hear(lambda _: True))[0]
    if not greeting.upper().startswith(b"+OK"):
        raise NotTls(f"It does not speak POP3 as it should: it begins with {_shown(greeting)}")
    lines.say("STLS")
    answer = (await lines.hear(lambda _: True))[0]
    if not answer.upper().startswith(b"+OK"):
        raise NotTls(f"It does not start TLS: to STLS it says {_shown(answer)}")


_ASK = {"smtp": _smtp, "imap": _imap, "pop3": _pop3}


def _shown(said: bytes) -> str:
    line = said[:80].splitlines()[0] if said[:80].strip() else said[:80]
    return repr("".join(each if each.isprintable() else "�" for each in line.decode("utf-8", "replace")))
