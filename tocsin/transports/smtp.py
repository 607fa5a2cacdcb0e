"""Outgoing mail: sent to the operator's SMTP server, or written to the outbox folder while none is set."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import aiosmtplib
import structlog

from tocsin.domain import accounts, names
from tocsin.domain.deliveries import ATTEMPT_TIMEOUT
from tocsin.domain.mail import OutgoingMail, compose
from tocsin.settings import Smtp
from tocsin.transports.smtp_session import begin_mail, hand_over, session

log = structlog.get_logger(__name__)


class MailRefused(Exception):
    """The mail was not accepted; the text says why in one line.

    `permanent` means that the server refuses this recipient or this mail for good (5xx); all else may be temporary.
    """

    def __init__(self, message: str, *, permanent: bool = False, code: int | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.code = code


class Mailer:
    """Sends all mail. Without `smtp`, mail is a file in `outbox` and a line in the log."""

    def __init__(self, smtp: Smtp | None, email_from: str, outbox: Path) -> None:
        self._smtp = smtp
        self._from = accounts.in_ascii(email_from)
        self._outbox = outbox

    @property
    def domain(self) -> str:
        """The right-hand side of a Message-ID."""
        return self._from.rpartition("@")[2]

    async def send(self, mail: OutgoingMail) -> str:
        """Send `mail`. Returns the server's reply: from then on it is responsible for the mail (RFC 5321, 6.1).

        Ends within 10 seconds. Raises `MailRefused`.
        """
        mail = replace(mail, to=accounts.in_ascii(mail.to))
        if self._smtp is None:
            try:
                path = await asyncio.to_thread(_write, self._outbox, mail, self._from)
            except OSError as error:
                raise MailRefused(f"The outbox {self._outbox} cannot be written: {error.strerror}") from error
            log.info("No TOCSIN_SMTP_URL is set: mail was written to the outbox", path=str(path), to=mail.to)
            return f"Written to the outbox: {path.name}"
        return await self._hand_in(self._smtp, mail)

    async def _hand_in(self, smtp: Smtp, mail: OutgoingMail) -> str:
        target = f"{smtp.host}:{smtp.port}"
        sent = False

        def doubt() -> str:
            return "; it may have accepted the mail all the same" if sent else ""

        loop = asyncio.get_running_loop()
        deadline = loop.time() + ATTEMPT_TIMEOUT
        try:
            async with asyncio.timeout_at(deadline) as limit, session(smtp, ATTEMPT_TIMEOUT) as client:
                utf8 = not f"{self._from}{mail.to}".isascii()
                if utf8 and not client.supports_extension("smtputf8"):
                    raise MailRefused(f"{target} takes no addresses such as {mail.to} (SMTPUTF8)", permanent=True)
                options, encoding = (["SMTPUTF8"], "utf-8") if utf8 else ([], "ascii")
                await client.mail(self._from, options=options, encoding=encoding)
                await client.rcpt(mail.to, encoding=encoding)
                protocol = await begin_mail(client)
                sent = True
                limit.reschedule(None)  # from here on, a partial reply counts after the timeout, too
                response = await hand_over(protocol, compose(mail, self._from), deadline - loop.time())
        except aiosmtplib.SMTPAuthenticationError as error:
            raise MailRefused(f"{target} does not accept the user name and password of TOCSIN_SMTP_URL") from error
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
            raise _refused(error.code, error.message, recipient=True) from error
        except TimeoutError as error:
            raise MailRefused(f"No answer from {target} within {ATTEMPT_TIMEOUT:g} seconds{doubt()}") from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code, error.message, recipient=False) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailRefused(f"No mail could be sent through {target}: {_line(str(error))}{doubt()}") from error
        except ValueError as error:
            raise MailRefused(f"No mail can be sent to {mail.to}: {_line(str(error))}", permanent=True) from error
        return _line(response)


def _refused(code: int, reply: str, *, recipient: bool) -> MailRefused:
    answer = f"The mail server answered {code} {_line(reply)}"
    return MailRefused(answer, permanent=recipient and code >= 500, code=code)


def _line(text: str) -> str:
    # The client decodes bytes that are not UTF-8 to lone surrogates, which cannot be stored.
    return names.line(text)[:500]


def _write(outbox: Path, mail: OutgoingMail, sender: str) -> Path:
    """Write one mail to one file, atomically; a retry replaces it."""
    outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.@_-]", "", mail.message_id)
    path = outbox / f"{name[:200]}.eml"
    # mkstemp makes the file readable by its owner alone.
    handle, temporary = tempfile.mkstemp(dir=outbox, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(compose(mail, sender, wide=True))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
