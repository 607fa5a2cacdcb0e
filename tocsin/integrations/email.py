"""Email: what happened, where and since when, in the subject; the rest as plain text and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import jinja2

from tocsin.domain import accounts, names
from tocsin.domain.deliveries import Delivered, Failed, Outcome, Suppressed
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Notification, format_duration
from tocsin.domain.mail import OutgoingMail
from tocsin.integrations.base import NO_PERMIT, Field, IntegrationType, Permit, Transports
from tocsin.storage.channels import mail_limits
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import Tx
from tocsin.transports.smtp import MailRefused

MAX_SUBJECT_NAME_LENGTH = 80

_templates = jinja2.Environment(loader=jinja2.PackageLoader("tocsin", "integrations"), autoescape=True)


class EmailIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::EmailIntegration"
    label: ClassVar[str] = "email"
    about: ClassVar[str] = "Sends an email when an incident opens and when it is resolved."
    fields: ClassVar[tuple[Field, ...]] = (Field("email", "Mail address", "email", placeholder="oncall@example.com"),)
    for_people: ClassVar[bool] = True

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"email": _checked_address(given.get("email", (stored or {}).get("email")))}

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return str(settings["email"])

    def payload(self, notification: Notification) -> str:
        mail_text = words(notification)
        return f"Subject: {mail_text.subject}\n\n{_text(mail_text)}"

    def needs_permit(self, to: Sendable) -> bool:
        return to.has_ceiling

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any] | Suppressed | Failed:
        """The daily limits."""
        return await mail_limits.check(tx, job, settings["email"]) or {}

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        message = mail(settings["email"], notification, domain=transports.mail.domain, now=datetime.now(UTC))
        try:
            return Delivered(response=await transports.mail.send(message))
        except MailRefused as error:
            return Failed(str(error), retry="twice" if error.permanent else "scheduled", status_code=error.code)


def mail(address: str, notification: Notification, *, domain: str, now: datetime) -> OutgoingMail:
    """The mail for one notification; `domain` is its sender's."""
    mail_text = words(notification)
    unsubscribe_url = notification.unsubscribe_url
    return OutgoingMail(
        to=address,
        subject=mail_text.subject,
        text=_text(mail_text, unsubscribe_url, notification.acknowledge_url),
        html=_templates.get_template("email.html").render(
            mail_text=mail_text, unsubscribe_url=unsubscribe_url, acknowledge_url=notification.acknowledge_url
        ),
        at=now,
        message_id=f"{notification.delivery_id}@{domain}",
        thread=notification.incident_id and f"{notification.incident_id}@{domain}",
        unsubscribe_url=unsubscribe_url,
    )


@dataclass(frozen=True, slots=True)
class MailText:
    """A notification for people. `facts` are lines of a name and a value."""

    subject: str
    headline: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    link: str | None


def words(notification: Notification) -> MailText:
    """The text for both parts of the mail. Text from a project can neither break a line nor start a header."""
    name, kind, text = map(names.line, (notification.resource_name, notification.incident_type, notification.message))
    short = names.cut(name, MAX_SUBJECT_NAME_LENGTH)
    url = names.line(notification.resource_url)
    link = url if url.startswith(("http://", "https://")) else None
    began, length = _moment(notification.started_at), format_duration(notification.duration or 0)
    facts = (("Where", name), ("What", kind), ("Since", began))
    match notification.event:
        case "notice":
            return MailText(f"Tocsin: {name}", name, (text,), (), link)
        case "test":
            return MailText(f"Test: {short}, {began}", name, (text,), (("Sent", began),), link)
        case "resolved":
            assert notification.closed_at is not None
            ended = (("Until", _moment(notification.closed_at)), ("Lasted", length))
            sentences: tuple[str, ...] = (text,)
            if notification.first_notice_failed:
                sentences = (
                    f"This began at {began} and lasted {length}. The notification that it had opened could not be "
                    "delivered; this one covers both.",
                    text,
                )
            headline = f"Resolved: {kind} on {name}"
            return MailText(f"Resolved: {kind} on {short}, since {began}, lasted {length}", headline, sentences,
                         facts + ended, link)  # fmt: skip
        case "acknowledged":
            who = f"{notification.acknowledged_by} has it"
            return MailText(f"{who}: {kind} on {short} since {began}", f"{who}: {kind} on {name}", (text,), facts, link)
        case "reminder":
            subject, headline = f"Reminder: {kind} on {short} since {began}", f"Still ongoing: {kind} on {name}"
            return MailText(subject, headline, (text,), facts, link)
    return MailText(f"Incident: {kind} on {short} since {began}", f"{kind} on {name}", (text,), facts, link)


def _text(mail_text: MailText, unsubscribe_url: str | None = None, acknowledge_url: str | None = None) -> str:
    parts = [mail_text.headline, *mail_text.sentences]
    if mail_text.facts:
        parts.append("\n".join(f"{name + ':':<8} {value}" for name, value in mail_text.facts))
    if mail_text.link:
        parts.append(mail_text.link)
    if acknowledge_url:
        parts.append(f"I have it, notify nobody further: {acknowledge_url}")
    if unsubscribe_url:
        parts.append(f"-- \nNo more of these mails: {unsubscribe_url}")
    return "\n\n".join(parts) + "\n"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _checked_address(value: object) -> str:
    field = "settings.email"
    if value is None or value == "":
        raise invalid_field(field, "is required")
    if not isinstance(value, str):
        raise invalid_field(field, "must be a string")
    return accounts.address(field, value)
