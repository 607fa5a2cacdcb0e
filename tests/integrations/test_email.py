"""Mail: what it says, what cannot be smuggled into it, and how a real mail server gets it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import email_validator
import pytest
from msgspec.structs import replace

from tests.receivers import Mailbox
from tocsin.cli.sockets import free_port
from tocsin.domain import accounts
from tocsin.domain.deliveries import Delivered, Failed
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.domain.mail import compose
from tocsin.integrations.base import Transports
from tocsin.integrations.email import EmailIntegration, mail
from tocsin.settings import Smtp
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer, MailRefused

EMAIL = EmailIntegration()
BEGAN = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)
LINK = "https://tocsin.example.com/unsubscribe?token=" + "Ab-_9." * 20
OPENED = Notification(
    delivery_id="DLV1", event="opened", incident_id="INC1", resource_type="Server", resource_name="web-1",
    resource_url="https://tocsin.example.com/servers/SRV1", incident_type="cpu", message="CPU at 97 % for 300 s",
    started_at=BEGAN, unsubscribe_url=LINK,
)  # fmt: skip
RESOLVED = replace(OPENED, delivery_id="DLV2", event="resolved", closed_at=BEGAN + timedelta(minutes=5, seconds=3))


def written(notification: Notification, address: str = "alerts@example.com") -> EmailMessage:
    """The mail as a mail program reads it."""
    return message_from_bytes(on_the_wire(notification, address), policy=policy.default)


def on_the_wire(notification: Notification, address: str = "alerts@example.com") -> bytes:
    return compose(mail(address, notification, domain="example.org", now=BEGAN), "tocsin@example.org")


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content())


# --------------------------------------------------------------------------------------------------------------- words


def test_the_subject_says_what_where_and_since_when() -> None:
    assert written(OPENED)["Subject"] == "Incident: cpu on web-1 since 2024-01-01 12:00:00 UTC"
    assert (
        written(RESOLVED)["Subject"] == "Resolved: cpu on web-1, since 2024-01-01 12:00:00 UTC, lasted 5 min 3 s"
    )


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_both_parts_tell_all(kind: str) -> None:
    said = part(written(RESOLVED), kind)
    for fact in ("web-1", "cpu", "CPU at 97 % for 300 s", "2024-01-01 12:00:00 UTC", "2024-01-01 12:05:03 UTC",
                 "5 min 3 s", "https://tocsin.example.com/servers/SRV1", LINK):  # fmt: skip
        assert fact in said


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_resolve_whose_first_notice_failed_says_both(kind: str) -> None:
    said = " ".join(part(written(replace(RESOLVED, first_notice_failed=True)), kind).split())
    assert "began at 2024-01-01 12:00:00 UTC and lasted 5 min 3 s" in said
    assert "could not be delivered" in said
    assert "could not be delivered" not in part(written(RESOLVED), kind)


def test_a_test_says_that_it_is_one() -> None:
    said = written(replace(OPENED, event="test", incident_id=None, resource_name="Test notification"))
    assert said["Subject"].startswith("Test: ")
    assert said["References"] is None


def test_a_notice_says_its_message() -> None:
    notice = Notification("DLV3", "notice", None, "", "Tocsin", "", "notice", "The integration x was disabled", BEGAN)
    said = written(notice)
    assert said["Subject"] == "Tocsin: Tocsin"
    assert "The integration x was disabled" in part(said, "plain")
    assert "Where" not in part(said, "plain")


def test_times_in_other_zones_are_told_in_utc() -> None:
    from datetime import timezone

    elsewhere = BEGAN.astimezone(timezone(timedelta(hours=9)))
    assert "since 2024-01-01 12:00:00 UTC" in written(replace(OPENED, started_at=elsewhere))["Subject"]


# -------------------------------------------------------------------------------------------------------------- headers


def test_headers_that_mail_programs_go_by() -> None:
    said = written(OPENED)
    assert said["To"] == "alerts@example.com"
    assert said["Message-ID"] == "<DLV1@example.org>"
    assert said["References"] == written(RESOLVED)["References"] == "<INC1@example.org>"
    assert said["Auto-Submitted"] == "auto-generated"
    assert said["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert said["Date"].datetime == BEGAN


def test_the_link_to_unsubscribe_stands_unencoded_in_one_line() -> None:
    raw = on_the_wire(OPENED)
    assert f"\r\nList-Unsubscribe: <{LINK}>\r\n".encode() in raw


def test_a_repeated_mail_has_the_same_message_id() -> None:
    first, again = written(OPENED), written(OPENED)
    assert first["Message-ID"] == again["Message-ID"] != written(RESOLVED)["Message-ID"]


def test_without_a_link_there_is_no_word_of_unsubscribing() -> None:
    said = written(replace(OPENED, unsubscribe_url=None))
    assert said["List-Unsubscribe"] is None
    assert said["List-Unsubscribe-Post"] is None
    assert "No more of these mails" not in part(said, "plain") + part(said, "html")


NASTY = [
    "web\r\nBcc: victim@example.net", "web\nBcc: victim@example.net", "web\rBcc: victim@example.net",
    "web\r\n\r\n<h1>body</h1>", "web\x00\x1b[31m", "web\u2028Bcc: victim@example.net", "web\x85Bcc: v@example.net",
    "web\x0b\x0c\x1c\x1d\x1eBcc: victim@example.net", "=?utf-8?q?=0D=0ABcc:_victim@example.net?=",
    "=?utf-8?b?DQpCY2M6IHZpY3RpbUBleGFtcGxlLm5ldA==?= ü", "w\ud800b", "ü" * 300, "x" * 3000, "‮evil",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("where", ["resource_name", "incident_type", "message"])
def test_no_text_of_a_project_can_add_a_header(text: str, where: str) -> None:
    for notification in (OPENED, RESOLVED, replace(OPENED, event="test"), replace(OPENED, event="notice")):
        said = written(replace(notification, **{where: text}))
        assert said["Bcc"] is None
        assert len(said.get_all("Subject") or ()) == 1
        assert said["To"] == "alerts@example.com"
        assert not said.defects
        assert said.get_content_type() == "multipart/alternative"


def test_what_looks_encoded_arrives_as_it_was() -> None:
    assert "=?utf-8?q?=0D=0ABcc:_x@example.net?=" in written(
        replace(OPENED, resource_name="=?utf-8?q?=0D=0ABcc:_x@example.net?=")
    )["Subject"]


def test_no_address_can_add_a_header() -> None:
    address = "=?utf-8?q?=0D=0ABcc=3Ax=40example=2Enet?=@example.com"
    raw = on_the_wire(OPENED, EMAIL.parse({"email": address})["email"])
    assert f"To: {address}\r\n".encode() in raw
    assert b"\r\nBcc" not in raw


def test_no_text_of_a_project_can_add_markup() -> None:
    nasty = replace(OPENED, resource_name="<script>x</script>", message='"><img src=x>', resource_url="javascript:x")
    said = written(nasty)
    html = part(said, "html")
    assert "<script" not in html
    assert "<img" not in html
    assert "javascript:" not in html


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [("alerts@example.com", "alerts@example.com"), ("A.b+c@Example.COM", "A.b+c@example.com"),
     ("ops@mail.corp.internal", "ops@mail.corp.internal"), ("ops@host.test", "ops@host.test"),
     ("müller@exämple.com", "müller@exämple.com")],
)  # fmt: skip
def test_addresses_are_accepted(given: str, kept: str) -> None:
    assert EMAIL.parse({"email": given, "unknown": 1}) == {"email": kept}


@pytest.mark.parametrize(
    "given",
    [None, "", "not an address", "a@", "@b.com", "a@b", "a@localhost", "a@b@c.com", "a b@example.com",
     "Bob <bob@example.com>", "a@example.com,b@example.com", "a@example.com\r\nBcc: b@example.com", "a@example.com\n",
     "a\x00@example.com",
     "a@[127.0.0.1]", "a" * 65 + "@example.com", "a@" + "b" * 250 + ".com", 5, ["a@example.com"], {"a": 1},
     "\ud800@b.com"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_field(given: Any) -> None:
    with pytest.raises(Refused) as refused:
        EMAIL.parse({"email": given})
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert [detail.field for detail in refused.value.details] == ["settings.email"]


# ------------------------------------------------------------------------------------------------------------- the wire


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server of these tests' own, whose answers they change."""
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


def wires(smtp: Smtp | None, folder: Path) -> Transports:
    return Transports(Http(Guard()), Mailer(smtp, "tocsin@example.org", folder / "outbox"), "https://tocsin.example.com")


async def test_a_mail_server_gets_it(mailbox: Mailbox, tmp_path: Path) -> None:
    speaking = wires(Smtp("127.0.0.1", mailbox.port), tmp_path)
    sent = await EMAIL.send({"email": "alerts@example.com"}, OPENED, speaking)
    assert isinstance(sent, Delivered)
    [got] = mailbox.to("alerts@example.com")
    assert got.sender == "tocsin@example.org"
    assert got.message["From"] == "Tocsin <tocsin@example.org>"
    assert got.message["Message-ID"] == "<DLV1@example.org>"
    assert got.message["List-Unsubscribe"] == f"<{LINK}>"
    assert "CPU at 97 %" in got.text
    assert "CPU at 97 %" in got.html


GOOD = {
    " a@example.com ": "a@example.com",
    "ops@nas.local": "ops@nas.local",
    "Ops@NAS.Local": "Ops@nas.local",
    "ops@bücher.local": "ops@bücher.local",
    "ops@box.test": "ops@box.test",
    "ops@box.lokal": "ops@box.lokal",
    "ops@" + "a" * 63 + ".local": "ops@" + "a" * 63 + ".local",
}
BAD = ("a@local", "a@nas.local@x", "a@nas.localhost", "a@printer.invalid", "Ann <a@nas.local>", "a b@nas.local",
       "ops@" + "a" * 64 + ".local", "a" * 65 + "@example.com")  # fmt: skip


@pytest.mark.parametrize("given", [*GOOD, *BAD])
def test_an_address_is_good_or_bad_for_accounts_and_for_integrations_alike(given: str) -> None:
    readers: list[Callable[[], str]] = [
        lambda: accounts.address("settings.email", given), lambda: EMAIL.parse({"email": given})["email"],
    ]  # fmt: skip
    for read in readers:
        if given in GOOD:
            assert read() == GOOD[given]
        else:
            with pytest.raises(Refused) as refused:
                read()
            assert [each.field for each in refused.value.details] == ["settings.email"]
    assert "local" in email_validator.SPECIAL_USE_DOMAIN_NAMES, "nobody else's rules are changed"


def test_an_address_in_ones_own_network_is_handed_in_as_ascii() -> None:
    assert accounts.in_ascii("ops@bücher.local") == "ops@xn--bcher-kva.local"
    assert accounts.in_ascii("ops@nas.local") == "ops@nas.local"


async def test_an_address_with_umlauts_in_its_domain_is_handed_in_as_ascii(mailbox: Mailbox, tmp_path: Path) -> None:
    speaking = wires(Smtp("127.0.0.1", mailbox.port), tmp_path)
    assert isinstance(await EMAIL.send({"email": "ops@exämple.com"}, OPENED, speaking), Delivered)
    assert mailbox.to("ops@xn--exmple-cua.com")


@pytest.mark.parametrize(
    ("said", "retry", "code"),
    [
        ("550 no such user", "twice", 550),
        ("450 greylisted", "scheduled", 450),
        ("452 mailbox full", "scheduled", 452),
    ],
)
async def test_what_a_mail_server_s_refusal_means(
    mailbox: Mailbox, tmp_path: Path, said: str, retry: str, code: int
) -> None:
    mailbox.refusal = said
    failed = await EMAIL.send({"email": "a@example.com"}, OPENED, wires(Smtp("127.0.0.1", mailbox.port), tmp_path))
    assert isinstance(failed, Failed)
    assert (failed.retry, failed.status_code) == (retry, code)
    assert said in failed.error


def no_server(_: Mailbox) -> Smtp:
    return Smtp("127.0.0.1", free_port())


def tls_demanded(mailbox: Mailbox) -> Smtp:
    return Smtp("127.0.0.1", mailbox.port, starttls="always")


def password_demanded(mailbox: Mailbox) -> Smtp:
    return Smtp("127.0.0.1", mailbox.port, username="tocsin", password="s3cret-password")


@pytest.mark.parametrize("smtp", [no_server, tls_demanded, password_demanded])
async def test_trouble_of_the_operator_s_own_is_waited_out_and_leaks_no_password(
    mailbox: Mailbox, tmp_path: Path, smtp: Callable[[Mailbox], Smtp]
) -> None:
    failed = await EMAIL.send({"email": "a@example.com"}, OPENED, wires(smtp(mailbox), tmp_path))
    assert isinstance(failed, Failed)
    assert failed.retry == "scheduled"
    assert "127.0.0.1" in failed.error
    assert "s3cret" not in repr(failed)
    assert mailbox.mails == []


async def test_without_a_mail_server_mail_is_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    speaking = wires(None, tmp_path)
    for _ in range(2):
        assert isinstance(await EMAIL.send({"email": "alerts@example.com"}, OPENED, speaking), Delivered)
    outbox = tmp_path / "outbox"
    [file] = outbox.iterdir()
    assert file.suffix == ".eml"
    assert stat.S_IMODE(outbox.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "CPU at 97 %" in part(message_from_bytes(file.read_bytes(), policy=policy.default), "plain")


async def test_an_outbox_that_cannot_be_written_is_waited_out(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    failed = await EMAIL.send({"email": "alerts@example.com"}, OPENED, wires(None, tmp_path))
    assert isinstance(failed, Failed)
    assert failed.retry == "scheduled"


async def test_a_mailer_says_whether_a_refusal_is_for_good(mailbox: Mailbox, tmp_path: Path) -> None:
    mailbox.refusal = "550 no such user"
    mailer = Mailer(Smtp("127.0.0.1", mailbox.port), "tocsin@example.org", tmp_path)
    with pytest.raises(MailRefused) as refused:
        await mailer.send(mail("a@example.com", OPENED, domain=mailer.domain, now=BEGAN))
    assert refused.value.permanent
