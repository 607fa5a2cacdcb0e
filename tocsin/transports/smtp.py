"""Mail outwards: handed to the operator's SMTP server, or written to the outbox folder while none is set."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import parseaddr
from pathlib import Path

import aiosmtplib
import structlog

from tocsin.domain.deliveries import TRY_TIMEOUT
from tocsin.settings import Smtp

log = structlog.get_logger(__name__)

_START_TLS = {"auto": None, "always": True, "never": False}


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
        self._from = email_from
        self._outbox = outbox

    @property
    def domain(self) -> str:
        """What the right-hand side of a Message-ID shall be."""
        return self._from.rpartition("@")[2]

    async def send(self, message: EmailMessage) -> str:
        """Hand in `message`, which names its recipient in `To`; `From` is added here. Returns what the server said.

        Ends within 10 seconds. Raises `MailRefused`.
        """
        message["From"] = f"Tocsin <{self._from}>"
        if self._smtp is None:
            try:
                path = await asyncio.to_thread(_write, self._outbox, message)
            except OSError as error:
                raise MailRefused(f"The outbox {self._outbox} cannot be written: {error.strerror}") from error
            log.info("No TOCSIN_SMTP_URL is set: mail was written to the outbox", path=str(path), to=str(message["To"]))
            return f"Written to the outbox: {path.name}"
        return await self._hand_in(self._smtp, message)

    async def _hand_in(self, smtp: Smtp, message: EmailMessage) -> str:
        target = f"{smtp.host}:{smtp.port}"
        try:
            async with asyncio.timeout(TRY_TIMEOUT):
                _, said = await aiosmtplib.send(
                    message,
                    sender=self._from,
                    recipients=[parseaddr(str(message["To"]))[1]],
                    hostname=smtp.host,
                    port=smtp.port,
                    username=smtp.username,
                    password=smtp.password,
                    use_tls=smtp.tls,
                    start_tls=False if smtp.tls else _START_TLS[smtp.starttls],
                    timeout=TRY_TIMEOUT,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise _refused(first.code, first.message, recipient=True) from error
        except aiosmtplib.SMTPSenderRefused as error:
            raise _refused(error.code, error.message, recipient=False) from error
        except aiosmtplib.SMTPAuthenticationError as error:
            raise MailRefused(f"{target} does not accept the user name and password of TOCSIN_SMTP_URL") from error
        except aiosmtplib.SMTPDataError as error:
            raise _refused(error.code, error.message, recipient=True) from error
        except aiosmtplib.SMTPNotSupported as error:
            raise MailRefused(f"{target} cannot do what is needed: {error}", permanent=True) from error
        except TimeoutError as error:
            raise MailRefused(f"No answer from {target} within {TRY_TIMEOUT:g} seconds") from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code, error.message, recipient=False) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailRefused(f"No mail could be handed in at {target}: {_line(str(error))}") from error
        return _line(said)


def _refused(code: int, said: str, *, recipient: bool) -> MailRefused:
    return MailRefused(f"The mail server answered {code} {_line(said)}", permanent=recipient and code >= 500, code=code)


def _line(text: str) -> str:
    # The client hands on bytes that are no UTF-8 as halves of characters, which nothing can store.
    return " ".join(text.encode("utf-8", "replace").decode().replace("\x00", "").split())[:500]


def _write(outbox: Path, message: EmailMessage) -> Path:
    """One mail, one file, there in whole or not at all; sent again it takes the same place."""
    outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.@_-]", "", str(message["Message-ID"] or "")) or f"mail-{os.urandom(8).hex()}"
    path = outbox / f"{name[:200]}.eml"
    # mkstemp makes the file readable by its owner alone.
    handle, temporary = tempfile.mkstemp(dir=outbox, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(message.as_bytes(policy=SMTPUTF8))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
