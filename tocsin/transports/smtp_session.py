"""A session with the operator's mail server: greeting, TLS, authentication; sending a mail, and quitting."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from tocsin.domain.helo import helo_name
from tocsin.settings import Smtp
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.resolver import Unresolved

FAREWELL = 2.0
"""Seconds that the server has for its reply to QUIT. Nothing waits for it."""

_TAKEN = re.compile(rb"250(?!\d)(?!.*\n[45]\d)", re.DOTALL)
"""The start of a reply that accepts the mail (RFC 5321, 4.2)."""

_DIALER = Dialer(Guard(EVERYWHERE))
"""For the operator's own host. It opens plain sockets only: TLS is up to the client."""

_leaving: set[asyncio.Task[None]] = set()


class InClear(aiosmtplib.SMTPException):
    """The server does not offer the encryption that the settings ask for; the text says what to do."""


@asynccontextmanager
async def session(smtp: Smtp, timeout: float) -> AsyncIterator[aiosmtplib.SMTP]:
    """A client that is ready to send. `timeout` is seconds for each reply of the server.

    Raises what aiosmtplib does, `InClear` included, and `OSError`.
    """
    try:
        async with asyncio.timeout(timeout):
            opened = await _DIALER.open(smtp.host, smtp.port)
    except TimeoutError as error:
        raise aiosmtplib.SMTPConnectTimeoutError(f"No connection within {timeout:g} seconds") from error
    except Unresolved as error:
        raise aiosmtplib.SMTPConnectError(str(error)) from error
    client = aiosmtplib.SMTP(
        hostname=smtp.host,
        sock=opened,
        local_hostname=smtp.helo or helo_name(socket.gethostname(), str(opened.getsockname()[0])),
        use_tls=smtp.tls,
        start_tls=False,
        timeout=timeout,
    )
    try:
        await client.connect()
        await _introduce(client)
        await _encrypt(client, smtp)
        if smtp.username is not None:
            await client.login(smtp.username, smtp.password or "")
        yield client
    except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused, InClear):
        _leave(client)
        raise
    except BaseException:
        _abort(client)
        opened.close()
        raise
    _leave(client)


async def begin_mail(client: aiosmtplib.SMTP) -> SMTPProtocol:
    """Start a mail. Returns the protocol on which the server waits for its data. Raises what aiosmtplib does."""
    begun = await client.execute_command(b"DATA")
    if begun.code != aiosmtplib.SMTPStatus.start_input:
        raise aiosmtplib.SMTPDataError(begun.code, begun.message)
    if client.protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    return client.protocol


async def hand_over(protocol: SMTPProtocol, mail: bytes, within: float) -> str:
    """Send the mail's data. Returns the server's reply, as far as it came within so many seconds: a 250 is enough.

    The mail's lines end in CR and LF. Raises what aiosmtplib does.
    """
    protocol.write(re.sub(rb"(?m)^\.", b"..", mail) + b".\r\n")
    try:
        answer = await protocol.read_response(timeout=within)
    except aiosmtplib.SMTPException:
        came = bytes(protocol._buffer)  # what the client has buffered of an incomplete reply
        if _TAKEN.match(came):
            return came[4:].decode("utf-8", "replace")
        raise
    if answer.code != aiosmtplib.SMTPStatus.completed:
        raise aiosmtplib.SMTPDataError(answer.code, answer.message)
    return answer.message


async def _introduce(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


async def _encrypt(client: aiosmtplib.SMTP, smtp: Smtp) -> None:
    """Encrypt if that is required or offered. A password is never sent in clear over a network by accident."""
    if smtp.tls or smtp.starttls == "never":
        return
    if client.supports_extension("starttls"):
        await client.starttls()
        await _introduce(client)
    elif smtp.starttls == "always":
        raise InClear("it does not offer STARTTLS, and TOCSIN_SMTP_URL says starttls=always")
    elif smtp.username is not None and smtp.exposure:
        raise InClear(
            "it does not offer STARTTLS, so the password would be sent in clear: use smtps:// in TOCSIN_SMTP_URL, or "
            "say there ?starttls=never if that network is to be trusted"
        )


def _leave(client: aiosmtplib.SMTP) -> None:
    """Send QUIT, as RFC 5321 (4.1.1.10) requires; its outcome does not affect the mail that was sent."""
    if not client.is_connected:
        return
    task = asyncio.get_running_loop().create_task(_quit(client))
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=FAREWELL)
    finally:
        client.close()


def _abort(client: aiosmtplib.SMTP) -> None:
    """End the connection at once, dropping unsent data."""
    if isinstance(client.transport, asyncio.WriteTransport):
        client.transport.abort()
    client.close()
