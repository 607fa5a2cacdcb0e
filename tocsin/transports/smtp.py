"""Mail outwards: handed to the operator's SMTP server, or written to the outbox folder while none is set."""

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
    """The mail was not taken; the text says why in one line.

    `permanent` means that the server refuses this recipient or this mail for good (5xx); all else may pass by waiting.
    """

    def __init__(self, message: str, *, permanent: bool = False, code: int | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.code = code


class Mailer:
    """The one way by which mail leaves. Without `smtp`, mail is a file in `outbox` and a line in the log."""

    def __init__(self, smtp: Smtp | None, email_from: str, outbox: Path) -> None:
        self._smtp = smtp
        self._from = accounts.in_ascii(email_from)
        self._outbox = outbox

    @property
    def domain(self) -> str:
        """What the right-hand side of a Message-ID shall be."""
        return self._from.rpartition("@")[2]

    async def send(self, letter: OutgoingMail) -> str:
        """Hand in `letter`. Returns what the server said: from then on it is responsible for the mail (RFC 5321, 6.1).

        Ends within 10 seconds. Raises `MailRefused`.
        """
        letter = replace(letter, to=accounts.in_ascii(letter.to))
        if self._smtp is None:
            try:
                path = await asyncio.to_thread(_write, self._outbox, letter, self._from)
            except OSError as error:
                raise MailRefused(f"The outbox {self._outbox} cannot be written: {error.strerror}") from error
            log.info("No TOCSIN_SMTP_URL is set: mail was written to the outbox", path=str(path), to=letter.to)
            return f"Written to the outbox: {path.name}"
        return await self._hand_in(self._smtp, letter)

    async def _hand_in(self, smtp: Smtp, letter: OutgoingMail) -> str:
        target = f"{smtp.host}:{smtp.port}"
        sent = False

        def doubt() -> str:
            return "; it may have taken the mail all the same" if sent else ""

        loop = asyncio.get_running_loop()
        deadline = loop.time() + ATTEMPT_TIMEOUT
        try:
            async with asyncio.timeout_at(deadline) as limit, session(smtp, ATTEMPT_TIMEOUT) as client:
                utf8 = not f"{self._from}{letter.to}".isascii()
                if utf8 and not client.supports_extension("smtputf8"):
                    raise MailRefused(f"{target} takes no addresses such as {letter.to} (SMTPUTF8)", permanent=True)
                options, encoding = (["SMTPUTF8"], "utf-8") if utf8 else ([], "ascii")
                await client.mail(self._from, options=options, encoding=encoding)
                await client.rcpt(letter.to, encoding=encoding)
                wire = await begin_mail(client)
                sent = True
                limit.reschedule(None)  # from here on what came counts when the time is over, too
                said = await hand_over(wire, compose(letter, self._from), deadline - loop.time())
        except aiosmtplib.SMTPAuthenticationError as error:
            raise MailRefused(f"{target} does not accept the user name and password of TOCSIN_SMTP_URL") from error
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
            raise _refused(error.code, error.message, recipient=True) from error
        except TimeoutError as error:
            raise MailRefused(f"No answer from {target} within {ATTEMPT_TIMEOUT:g} seconds{doubt()}") from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code, error.message, recipient=False) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailRefused(f"No mail could be handed in at {target}: {_line(str(error))}{doubt()}") from error
        except ValueError as error:
            raise MailRefused(f"No mail can be sent to {letter.to}: {_line(str(error))}", permanent=True) from error
        return _line(said)


def _refused(code: int, said: str, *, recipient: bool) -> MailRefused:
    return MailRefused(f"The mail server answered {code} {_line(said)}", permanent=recipient and code >= 500, code=code)


def _line(text: str) -> str:
    # The client hands on bytes that are no UTF-8 as halves of characters, which nothing can store.
    return names.line(text)[:500]


def _write(outbox: Path, letter: OutgoingMail, sender: str) -> Path:
    """One mail, one file, there in whole or not at all; sent again it takes the same place."""
    outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.@_-]", "", letter.message_id)
    path = outbox / f"{name[:200]}.eml"
    # mkstemp makes the file readable by its owner alone.
    handle, temporary = tempfile.mkstemp(dir=outbox, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(compose(letter, sender, wide=True))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
