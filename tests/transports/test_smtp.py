"""Handing in mail: what counts as delivered, what we call ourselves, and what is never said in clear."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path

import pytest
import trustme

from tests.receivers import Mailbox
from tests.smtp_server import Script, Then, listening
from tests.waiting import until
from tocsin import settings as configuration
from tocsin.cli import doctor
from tocsin.domain.helo import helo_name, is_helo_name
from tocsin.domain.mail import OutgoingMail
from tocsin.domain.settings import Unusable
from tocsin.settings import Smtp
from tocsin.transports.smtp import Mailer, MailRefused
from tocsin.web.pages import channels

NOW = datetime(2024, 1, 1, tzinfo=UTC)
LETTER = OutgoingMail("oncall@example.com", "Trouble", "There is some.\n", NOW, "DLV1@example.org")


def mailer(smtp: Smtp) -> Mailer:
    return Mailer(smtp, "tocsin@example.org", Path("nowhere"))


def to(script: Script, **more: object) -> Smtp:
    return Smtp("127.0.0.1", script.port, **more)  # type: ignore[arg-type]


async def quickly(sending: Mailer, letter: OutgoingMail = LETTER) -> str:
    """What the server said, within the time that says that nothing was waited for after it."""
    async with asyncio.timeout(8):
        return await sending.send(letter)


# -------------------------------------------------------------------------------------------------- what was received


@pytest.mark.parametrize("then", ["answer", "silence", "close", "reset"])
async def test_a_mail_is_delivered_from_the_250_on_whatever_follows(then: Then) -> None:
    async with listening(Script(then=then)) as script:
        assert await quickly(mailer(to(script))) == "2.0.0 kept"
        assert len(script.mails) == 1


@pytest.mark.parametrize(
    "taken", [b"250\r\n", b"250 kept\n", b"250-kept\r\n250 as 1\r\n", b"250 k\xe4pt\r\n221 bye\r\n"]
)
async def test_a_250_counts_in_every_form_that_servers_give_it(taken: bytes) -> None:
    async with listening(Script(taken=taken, then="silence")) as script:
        await quickly(mailer(to(script)))
        assert len(script.mails) == 1


@pytest.mark.parametrize(
    ("taken", "said"),
    [(b"250", ""), (b"250 OK", "OK"), (b"250 OK\r", "OK"), (b"250-queued\r\n", "queued"),
     (b"250-queued\r\n250-as\r\n25", "queued 250-as 25")],
)  # fmt: skip
async def test_a_250_whose_end_never_comes_is_a_250(taken: bytes, said: str) -> None:
    async with listening(Script(taken=taken, then="close")) as script:
        assert await quickly(mailer(to(script))) == said
        assert len(script.mails) == 1


async def test_a_250_whose_end_is_waited_for_in_vain_is_a_250() -> None:
    async def silence(taken: bytes) -> str:
        async with listening(Script(taken=taken, then="silence")) as script:
            said = await mailer(to(script)).send(LETTER)
            assert len(script.mails) == 1
            return said

    assert await asyncio.gather(silence(b"250 OK"), silence(b"250-queued\r\n")) == ["OK", "queued"]


@pytest.mark.parametrize(
    "taken", [b"25", b"2500 ok", b"354 more", b"554 5.7.1 spam", b"250-queued\r\n554 no", b"4", b"OK 250"]
)
async def test_what_does_not_begin_as_a_250_leaves_doubt(taken: bytes) -> None:
    async with listening(Script(taken=taken, then="close")) as script:
        with pytest.raises(MailRefused, match="may have accepted the mail all the same") as refused:
            await quickly(mailer(to(script)))
        assert not refused.value.permanent


async def test_the_mail_server_s_name_is_looked_up_by_the_one_resolver() -> None:
    with pytest.raises(MailRefused, match=r"Could not resolve mail\.invalid: "):
        await quickly(mailer(Smtp("mail.invalid", 25)))
    finding = await doctor._mail(replace(configuration.load(Path("nowhere"), {}), smtp=Smtp("mail.invalid", 25)))
    assert "Could not resolve mail.invalid" in finding.words


async def test_the_server_is_left_with_a_quit() -> None:
    async with listening(Script(then="silence")) as script:
        await quickly(mailer(to(script)))

        async def quit_() -> bool:
            return script.said[-1] == "QUIT"

        await until(quit_, what="QUIT")


async def test_a_connection_that_ends_before_the_250_leaves_doubt_and_the_next_try_can_be_known_as_the_same() -> None:
    async with listening(Script(taken=None, then="close")) as script:
        with pytest.raises(MailRefused, match="may have accepted the mail all the same") as refused:
            await quickly(mailer(to(script)))
        assert not refused.value.permanent
        script.taken, script.then = b"250 kept\r\n", "answer"
        await quickly(mailer(to(script)))
        first, second = (message_from_bytes(each, policy=policy.default)["Message-ID"] for each in script.mails)
        assert first == second == "<DLV1@example.org>"


async def test_a_refusal_that_was_received_counts_although_the_server_says_nothing_more() -> None:
    async with listening(Script(taken=b"554 5.7.1 spam\r\n", then="silence")) as script:
        with pytest.raises(MailRefused, match=r"554 5\.7\.1 spam") as refused:
            await quickly(mailer(to(script)))
        assert refused.value.permanent


# ------------------------------------------------------------------------------------------------- what we are called


async def test_a_strict_server_accepts_what_we_call_ourselves() -> None:
    async with listening(Script()) as script:
        await quickly(mailer(to(script)))
        [hello] = [each.removeprefix("EHLO ") for each in script.said if each.startswith("EHLO")]
        assert is_helo_name(hello)
        assert hello == helo_name(socket.gethostname(), "127.0.0.1")


async def test_over_ipv6_the_address_is_said_as_such() -> None:
    async with listening(Script(), "::1") as script:
        await quickly(mailer(Smtp("::1", script.port)))
        assert f"EHLO {helo_name(socket.gethostname(), '::1')}" in script.said


async def test_the_operator_may_choose_what_we_call_ourselves(tmp_path: Path) -> None:
    async with listening(Script()) as script:
        environ = {
            "TOCSIN_SMTP_URL": f"smtp://127.0.0.1:{script.port}", "TOCSIN_EMAIL_FROM": "tocsin@example.org",
            "TOCSIN_SMTP_HELO": "alarms.example.com",
        }  # fmt: skip
        smtp = configuration.load(tmp_path, environ).smtp
        assert smtp
        await quickly(mailer(smtp))
        assert "EHLO alarms.example.com" in script.said


@pytest.mark.parametrize(
    ("machine", "own", "said"),
    [
        ("mail.example.com", "192.0.2.1", "mail.example.com"),
        ("web-1", "192.0.2.1", "[192.0.2.1]"), ("localhost", "192.0.2.1", "[192.0.2.1]"),
        ("localhost.localdomain", "192.0.2.1", "[192.0.2.1]"), ("web_1.example.com", "192.0.2.1", "[192.0.2.1]"),
        ("", "192.0.2.1", "[192.0.2.1]"), ("10.0.0.1", "192.0.2.1", "[192.0.2.1]"),
        ("web-1", "2001:db8::1", "[IPv6:2001:db8::1]"), ("web-1", "fe80::1%eth0", "[IPv6:fe80::1]"),
        ("web-1", "::ffff:192.0.2.1", "[192.0.2.1]"),
    ],
)  # fmt: skip
def test_a_full_name_or_else_the_address(machine: str, own: str, said: str) -> None:
    assert helo_name(machine, own) == said
    assert is_helo_name(said)


@pytest.mark.parametrize("good", ["tocsin.example.com", "xn--exmple-cua.com", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_names_and_addresses_are_greetings(good: str, tmp_path: Path) -> None:
    assert is_helo_name(good)
    configuration.load(tmp_path, {"TOCSIN_SMTP_HELO": good})


@pytest.mark.parametrize(
    "bad",
    ["localhost", "a b.example.com", "a..example.com", "-a.example.com", "example.com\r\nMAIL", "192.0.2.1",
     "[192.0.2]", "[2001:db8::1]", "[IPv6:192.0.2.1]", "exämple.com", "a" * 64 + ".example.com"],
)  # fmt: skip
def test_what_is_no_greeting_stops_the_start(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="TOCSIN_SMTP_HELO"):
        configuration.load(tmp_path, {"TOCSIN_SMTP_HELO": bad})


# ------------------------------------------------------------------------------------------------------------ in clear

ANOTHER_MACHINE = "127.1"
"""A host that the settings do not know for this machine, although it is."""


async def test_no_password_goes_in_clear_over_a_network_by_accident() -> None:
    async with listening(Script(offers=("AUTH PLAIN LOGIN",))) as script:
        smtp = Smtp(ANOTHER_MACHINE, script.port, username="tocsin", password="s3cret")
        with pytest.raises(MailRefused, match="starttls=never") as refused:
            await quickly(mailer(smtp))
        assert not refused.value.permanent, "it is tried again until the operator has decided"
        assert not [each for each in script.said if each.startswith("AUTH")]


@pytest.mark.parametrize(
    ("host", "starttls"), [(ANOTHER_MACHINE, "never"), ("127.0.0.1", "auto"), ("localhost", "auto")]
)
async def test_a_password_goes_in_clear_where_that_was_said_or_no_network_is_between(host: str, starttls: str) -> None:
    async with listening(Script(offers=("AUTH PLAIN",))) as script:
        await quickly(mailer(Smtp(host, script.port, username="t", password="p", starttls=starttls)))  # type: ignore[arg-type]
        assert [each for each in script.said if each.startswith("AUTH PLAIN")]


@pytest.fixture
def server_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's end, whose certificate this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("starttls", ["auto", "always"])
async def test_encryption_that_is_offered_is_used_before_the_password(
    server_tls: ssl.SSLContext, starttls: str
) -> None:
    async with listening(Script(offers=("AUTH PLAIN",), tls=server_tls)) as script:
        await quickly(mailer(to(script, username="t", password="p", starttls=starttls)))
        verbs = [each.split(" ")[0] for each in script.said]
        assert verbs[:6] == ["EHLO", "STARTTLS", "(TLS)", "EHLO", "AUTH", "MAIL"]


async def test_smtps_is_encrypted_from_the_first_byte_by_the_name_in_the_settings(server_tls: ssl.SSLContext) -> None:
    async with listening(Script(), smtps=server_tls) as script:
        await quickly(mailer(to(script, tls=True)))
        with pytest.raises(MailRefused, match=r"(?i)certificate"):
            await quickly(mailer(Smtp("localhost", script.port, tls=True)))
        assert len(script.mails) == 1


async def test_what_was_said_in_clear_behind_starttls_is_forgotten(server_tls: ssl.SSLContext) -> None:
    """RFC 3207, 6: who stands between could otherwise answer in the server's place."""
    injected = b"250-mail.example.com\r\n250 AUTH LOGIN\r\n"
    async with listening(Script(offers=("AUTH PLAIN",), tls=server_tls, injected=injected)) as script:
        await quickly(mailer(to(script, username="t", password="p")))
        assert [each for each in script.said if each.startswith("AUTH PLAIN")], "by what was offered under TLS"
        assert script.said.count("(TLS)") == len(script.mails) == 1


async def test_a_certificate_that_is_not_the_server_s_is_refused(server_tls: ssl.SSLContext) -> None:
    async with listening(Script(tls=server_tls)) as script:
        with pytest.raises(MailRefused, match=r"(?i)certificate"):
            await quickly(mailer(Smtp("localhost", script.port)))
        assert not script.mails


@pytest.mark.parametrize(
    ("url", "exposed"),
    [("smtp://mail.example.com", True), ("smtp://10.0.0.5:25", True), ("smtps://mail.example.com", False),
     ("smtp://mail.example.com?starttls=always", False), ("smtp://mail.example.com?starttls=never", False),
     ("smtp://localhost:25", False), ("smtp://127.0.0.1:25", False), ("smtp://[::1]:25", False)],
)  # fmt: skip
def test_the_settings_know_where_mail_may_go_in_clear(url: str, exposed: bool, tmp_path: Path) -> None:
    smtp = configuration.load(tmp_path, {"TOCSIN_SMTP_URL": url, "TOCSIN_EMAIL_FROM": "tocsin@example.org"}).smtp
    assert smtp
    assert (smtp.exposure is not None) == exposed


async def test_the_doctor_and_the_settings_page_warn_where_mail_may_go_in_clear(tmp_path: Path) -> None:
    async with listening(Script()) as script:
        for host, verdict in ((ANOTHER_MACHINE, "warn"), ("127.0.0.1", "ok")):
            settings = replace(configuration.load(tmp_path, {}), smtp=Smtp(host, script.port))
            finding = await doctor._mail(settings)
            [mail, *_] = channels.of(settings, "http://tocsin.test")
            assert (finding.verdict, mail.level) == (verdict, verdict)
            for said in (finding.words, mail.description):
                assert ("starttls=always" in said) == (verdict == "warn")


async def test_the_doctor_says_that_the_password_would_go_in_clear(tmp_path: Path) -> None:
    async with listening(Script(offers=("AUTH PLAIN",))) as script:
        smtp = Smtp(ANOTHER_MACHINE, script.port, username="t", password="s3cret")
        finding = await doctor._mail(replace(configuration.load(tmp_path, {}), smtp=smtp))
        assert finding.verdict == "fail"
        assert "starttls=never" in finding.words
        assert not [each for each in script.said if each.startswith("AUTH")]


async def test_a_real_server_takes_every_line_as_it_is() -> None:
    mailbox = Mailbox()
    try:
        text = ".\n..\n.hidden\nFrom somebody\n" + "x" * 5000 + "\n" + "é👩‍💻" * 400 + "\n.\n"
        letter = OutgoingMail("oncall@example.com", "Lines", text, NOW, "DLV2@example.org", html=f"<pre>{text}</pre>")
        await quickly(mailer(Smtp("127.0.0.1", mailbox.port)), letter)
        [got] = mailbox.to("oncall@example.com")
        assert got.text.replace("\r\n", "\n") == text
        assert got.html.replace("\r\n", "\n") == f"<pre>{text}</pre>\n"
    finally:
        mailbox.close()
