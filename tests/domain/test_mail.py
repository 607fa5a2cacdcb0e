"""Every kind of mail, with hostile text in every field that anybody can set, as a real mail server gets it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tocsin
from tests.receivers import Mail, Mailbox
from tests.smtp_server import Script, listening
from tocsin.domain import account_mail, names
from tocsin.domain.deliveries import Event
from tocsin.domain.incidents import Notification
from tocsin.domain.mail import OutgoingMail, compose
from tocsin.integrations.email import mail
from tocsin.settings import Smtp
from tocsin.transports.smtp import Mailer

NOW = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)
TO, LINK = "somebody@example.net", "https://tocsin.example.com/x?token=" + "aB-_." * 40

HOSTILE = [
    "=?utf-8?q?Hi=0D=0AReply-To=3A_x@example.com?=", "=?utf-8?b?SGkNCkJjYzogeEBleGFtcGxlLmNvbQ==?= and more",
    "ü =?utf-8?q?Hi=0D=0ABcc=3A_x@example.com?= ü", "Hi\r\nBcc: x@example.com", "Hi\nBcc: x@example.com",
    "Hi\rBcc: x@example.com", "Hi\r\n\r\n<h1>body</h1>", "Hi\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029Bcc: x@example.com",
    "\u202eevil\u2066", "half \ud800 a character", "<b>&amp;</b>", "</title><script>x</script>",
    '"quoted" (comment) <a@b>',
    "x" * 200, "x " * 100, "ü" * 200, "👩‍💻" * 60, "می‌خواهم", "東京　本店", "{link} %s {0}", "From me",
    ".", "...", "- -- ",
]  # fmt: skip
EXPECTED = {
    "From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "List-Unsubscribe",
    "List-Unsubscribe-Post", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    "X-Peer", "X-MailFrom", "X-RcptTo",  # the receiver's own
}  # fmt: skip


def of(event: Event) -> Callable[[str], OutgoingMail]:
    def made(text: str) -> OutgoingMail:
        said = Notification(
            "DLV1", event, "INC1" if event in ("opened", "resolved") else None, "Server", text,
            f"https://example.com/{text}", text, text, NOW,
            NOW + timedelta(seconds=5) if event == "resolved" else None, first_notice_failed=event == "resolved",
            unsubscribe_url=LINK,
        )  # fmt: skip
        return mail(TO, said, domain="example.org", now=NOW)

    return made


KINDS: dict[str, Callable[[str], OutgoingMail]] = {
    "opened": of("opened"), "resolved": of("resolved"), "test": of("test"), "notice": of("notice"),
    "verification": lambda text: account_mail.verification(TO, LINK, domain="example.org", now=NOW),
    "invitation": lambda text: account_mail.invitation(
        TO, LINK, inviter=text, project=text, role="member", domain="example.org", now=NOW
    ),
    "reset": lambda text: account_mail.reset(TO, LINK, domain="example.org", now=NOW),
    "trial": lambda text: account_mail.test_mail(TO, LINK, domain="example.org", now=NOW),
}  # fmt: skip


class Seen(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


async def received(mailbox: Mailbox, letter: OutgoingMail) -> Mail:
    mailbox.forget()
    mailer = Mailer(Smtp("127.0.0.1", mailbox.port), "tocsin@example.org", Path("nowhere"))
    await mailer.send(letter)
    [got] = mailbox.mails
    return got


def subject_begins(got: Mail, text: str) -> bool:
    """Whether the text, as far as a subject holds it, reads in the subject as it is."""
    shown = names.line(text)
    return any(got.subject.find(shown[:most]) >= 0 for most in (len(shown), 70))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_text_writes_headers_and_what_is_said_reads_as_it_is(mailbox: Mailbox, kind: str, text: str) -> None:
    got = await received(mailbox, KINDS[kind](text))
    message = got.message
    assert not message.defects
    assert set(message.keys()) <= EXPECTED
    assert len(message.keys()) == len(set(message.keys())), "each once"
    assert (message["To"], message["From"]) == (TO, "Tocsin <tocsin@example.org>")
    assert got.recipients == (TO,)
    assert not got.subject.isspace()
    assert "\n" not in got.subject
    if kind in ("opened", "resolved", "test", "invitation"):
        assert subject_begins(got, text)
    shown = names.line(text)
    if kind in ("opened", "resolved", "notice", "test"):
        assert any(shown in line for line in got.text.splitlines())
        seen = Seen(got.html)
        assert seen.tags <= {"html", "head", "meta", "title", "body", "div", "h1", "p", "a", "table", "tr", "td"}
        assert shown in seen.text
    if kind == "invitation":
        assert any(f"to the project {shown} on Tocsin" in line for line in got.text.splitlines())
    if kind in ("verification", "invitation", "reset"):
        assert LINK in got.text.splitlines()


@pytest.mark.parametrize("local", ["=?utf-8?q?Hi=0D=0ABcc=3Ax?=", "a+b", "o'brien", "{x}", "%s", "x" * 64])
async def test_no_address_writes_headers(local: str) -> None:
    """Seen raw: the parser of the usual test server would itself decode what stands in an address."""
    letter = account_mail.reset(f"{local}@example.com", LINK, domain="example.org", now=NOW)
    async with listening(Script()) as script:
        await Mailer(Smtp("127.0.0.1", script.port), "tocsin@example.org", Path("nowhere")).send(letter)
    assert f"RCPT TO:<{local}@example.com>" in script.said
    head = script.mails[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert f"To: {local}@example.com" in head
    assert {line.partition(":")[0] for line in head if not line.startswith(" ")} <= EXPECTED


def test_lines_are_never_longer_than_mail_may_have() -> None:
    for text in (*HOSTILE, "x" * 5000, "👩‍💻" * 2000):
        for made in KINDS.values():
            for wide in (False, True):
                raw = compose(made(text), "tocsin@example.org", wide=wide)
                assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
                assert b"\r" not in raw.replace(b"\r\n", b"")
                assert b"\n" not in raw.replace(b"\r\n", b"")
                assert wide or raw.isascii()
                message_from_bytes(raw, policy=policy.default)["Subject"]


def test_mail_is_written_in_one_place() -> None:
    """Whoever imports the standard library's `email` to write mail does not go by its rules."""
    root = Path(tocsin.__file__).parent
    writers = ("email.message", "email.mime", "email.policy", "email.header", "email.headerregistry", "smtplib")
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(writers))
        or (isinstance(node, ast.Import) and any(each.name.startswith(writers) for each in node.names))
    }
    assert found == {"domain/mail.py"}
