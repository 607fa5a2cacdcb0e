"""How mail is composed: what its headers may contain, and how its bodies are encoded.

Values of headers are plain text here. The standard library would take `=?…?=` in them for an encoding (RFC 2047), and
would take line breaks in what it decodes for new headers; so no value reaches its parser, and none has two lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email import headerregistry
from email.header import Header
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from typing import Any

from tocsin.domain import names

MAX_SUBJECT_LENGTH = 250
MAX_LINE_LENGTH = 998
"""Octets of a line (RFC 5322, 2.1.1)."""


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """One mail to one address, complete but for its sender.

    `message_id` is the same for every attempt, so that a duplicate can be recognized. Mails with the same
    `thread` are grouped by mail programs. At `unsubscribe_url` its reader can stop such mails.
    """

    to: str
    subject: str
    text: str
    at: datetime
    message_id: str
    html: str | None = None
    thread: str | None = None
    unsubscribe_url: str | None = None


def compose(mail: OutgoingMail, sender: str, *, wide: bool = False) -> bytes:
    """The mail as it is sent, with CRLF line endings.

    All of it is ASCII, but for addresses that are not. `wide`: bodies may have 8-bit characters as well, so that people
    can read them as files in a folder.
    """
    message = EmailMessage(policy=_WIDE if wide else _NARROW)
    for name, value in _values(mail, sender).items():
        if value:
            message[name] = names.line(value)
    message.set_content(mail.text, cte=_transfer(mail.text, wide))
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html", cte=_transfer(mail.html, wide))
    return message.as_bytes()


def _values(mail: OutgoingMail, sender: str) -> dict[str, str | None]:
    unsubscribe = mail.unsubscribe_url
    return {
        "From": f"Tocsin <{sender}>",
        "To": mail.to,
        "Subject": names.cut(names.line(mail.subject), MAX_SUBJECT_LENGTH),
        "Date": format_datetime(mail.at),
        "Message-ID": f"<{mail.message_id}>",
        "References": mail.thread and f"<{mail.thread}>",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": unsubscribe and f"<{unsubscribe}>",
        "List-Unsubscribe-Post": unsubscribe and "List-Unsubscribe=One-Click",
    }


def _transfer(text: str, wide: bool) -> str | None:
    """`8bit`/`7bit` where the text can be sent as it is; else None: the standard library chooses an encoding."""
    if not (wide or text.isascii()) or any(len(line) > MAX_LINE_LENGTH for line in text.encode().splitlines()):
        return None
    return "7bit" if text.isascii() else "8bit"


class _Plain(UnstructuredHeader, BaseHeader):
    """A header with its value unchanged, in one line: mail programs do not recognize a folded link."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["parse_tree"], kwds["decoded"] = cls.value_parser(""), value

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


class _Text(_Plain):
    """Encoded (RFC 2047) where it is not plain ASCII, and where it only looks encoded."""

    def fold(self, *, policy: Policy) -> str:
        charset = "us-ascii" if self.isascii() and "=?" not in self else "utf-8"
        encoded = Header(str(self), charset, header_name=self.name).encode(linesep=policy.linesep)
        return f"{self.name}: {encoded}{policy.linesep}"


_headers = HeaderRegistry(default_class=_Plain, use_default_map=False)
_headers.map_to_type("subject", _Text)
# Headers that only the standard library writes; it parses them to do so.
_headers.map_to_type("mime-version", headerregistry.MIMEVersionHeader)  # type: ignore[arg-type]
_headers.map_to_type("content-type", headerregistry.ContentTypeHeader)  # type: ignore[arg-type]
_headers.map_to_type("content-transfer-encoding", headerregistry.ContentTransferEncodingHeader)  # type: ignore[arg-type]

_WIDE = SMTP.clone(header_factory=_headers, utf8=True)
_NARROW = _WIDE.clone(cte_type="7bit")
