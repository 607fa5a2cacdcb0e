"""The one way in which mail is written: what its headers may hold, and how its bodies travel.

Values of headers are plain text here. The standard library would take `=?…?=` in them for an encoding (RFC 2047), and
what it decodes, line breaks included, for headers of its own; so no value reaches its parser, and none has two lines.
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

    `message_id` is the same on every try, so that a mail which came twice can be known as one. What has the same
    `thread` is shown together by mail programs. At `unsubscribe_url` its reader can stop such mails.
    """

    to: str
    subject: str
    text: str
    at: datetime
    message_id: str
    html: str | None = None
    thread: str | None = None
    unsubscribe_url: str | None = None


def compose(letter: OutgoingMail, sender: str, *, wide: bool = False) -> bytes:
    """The mail as it travels, its lines ended by CR and LF.

    All of it is ASCII, but for addresses that are not. `wide`: bodies too may have 8-bit characters, so that people can
    read them where they lie in a folder.
    """
    message = EmailMessage(policy=_WIDE if wide else _NARROW)
    for name, value in _values(letter, sender).items():
        if value:
            message[name] = names.line(value)
    message.set_content(letter.text, cte=_transfer(letter.text, wide))
    if letter.html is not None:
        message.add_alternative(letter.html, subtype="html", cte=_transfer(letter.html, wide))
    return message.as_bytes()


def _values(letter: OutgoingMail, sender: str) -> dict[str, str | None]:
    unsubscribe = letter.unsubscribe_url
    return {
        "From": f"Tocsin <{sender}>",
        "To": letter.to,
        "Subject": names.cut(names.line(letter.subject), MAX_SUBJECT_LENGTH),
        "Date": format_datetime(letter.at),
        "Message-ID": f"<{letter.message_id}>",
        "References": letter.thread and f"<{letter.thread}>",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": unsubscribe and f"<{unsubscribe}>",
        "List-Unsubscribe-Post": unsubscribe and "List-Unsubscribe=One-Click",
    }


def _transfer(text: str, wide: bool) -> str | None:
    """As it is, where that can travel; else None, for the standard library to choose an encoding."""
    if not (wide or text.isascii()) or any(len(line) > MAX_LINE_LENGTH for line in text.encode().splitlines()):
        return None
    return "7bit" if text.isascii() else "8bit"


class _Plain(UnstructuredHeader, BaseHeader):
    """A header that is what it was given, in one line: mail programs do not find a link that is folded."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["parse_tree"], kwds["decoded"] = cls.value_parser(""), value

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


class _Text(_Plain):
    """Encoded (RFC 2047) where it is more than plain text, and where it only looks as if it were encoded."""

    def fold(self, *, policy: Policy) -> str:
        charset = "us-ascii" if self.isascii() and "=?" not in self else "utf-8"
        encoded = Header(str(self), charset, header_name=self.name).encode(linesep=policy.linesep)
        return f"{self.name}: {encoded}{policy.linesep}"


_headers = HeaderRegistry(default_class=_Plain, use_default_map=False)
_headers.map_to_type("subject", _Text)
# What only the standard library writes, and reads again in order to do so.
_headers.map_to_type("mime-version", headerregistry.MIMEVersionHeader)  # type: ignore[arg-type]
_headers.map_to_type("content-type", headerregistry.ContentTypeHeader)  # type: ignore[arg-type]
_headers.map_to_type("content-transfer-encoding", headerregistry.ContentTransferEncodingHeader)  # type: ignore[arg-type]

_WIDE = SMTP.clone(header_factory=_headers, utf8=True)
_NARROW = _WIDE.clone(cte_type="7bit")
