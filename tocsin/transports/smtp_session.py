"""A session with the operator's mail server up to its first mail: greeted, encrypted, signed in; and how it is left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiosmtplib

from tocsin.domain.greeting import greeting
from tocsin.settings import Smtp

FAREWELL = 2.0
"""Seconds that the server has for its answer to QUIT. Nothing waits for it."""

_NOT_YET = "[127.0.0.1]"
"""Never said: who we are is known with the connection. Without it the client would look for a name in the DNS."""

_leaving: set[asyncio.Task[None]] = set()


class InClear(aiosmtplib.SMTPException):
    """The server does not offer the encryption that the settings ask for; the text says what to do."""


@asynccontextmanager
async def session(smtp: Smtp, timeout: float) -> AsyncIterator[aiosmtplib.SMTP]:
    """A client that may hand in a mail. `timeout` seconds are for each answer of the server.

    Raises what aiosmtplib does, `InClear` included, and `OSError`.
    """
    client = aiosmtplib.SMTP(
        hostname=smtp.host, port=smtp.port, local_hostname=_NOT_YET, use_tls=smtp.tls, start_tls=False, timeout=timeout
    )
    try:
        await client.connect()
        own = str(client.get_transport_info("sockname")[0])
        client.local_hostname = smtp.helo or greeting(socket.gethostname(), own)
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
        raise
    _leave(client)


async def _introduce(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


async def _encrypt(client: aiosmtplib.SMTP, smtp: Smtp) -> None:
    """Encrypt where that was asked for or is offered. Never is a password sent in clear over a network by accident."""
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
    """Say QUIT, as RFC 5321 (4.1.1.10) asks for; whatever comes of it is no concern of what was handed in."""
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
    """End the connection at once, with what waits to be sent."""
    if isinstance(client.transport, asyncio.WriteTransport):
        client.transport.abort()
    client.close()
