"""Mail that pages send: after the answer, so that its time tells nothing, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from tocsin.domain import letters
from tocsin.domain.mail import Letter
from tocsin.storage import links, members
from tocsin.storage.accounts import User
from tocsin.storage.members import Invitation
from tocsin.transports.smtp import Mailer, MailRefused
from tocsin.web.session import Service

log = structlog.get_logger(__name__)


async def send_verification(service: Service, user: User) -> None:
    link = links.verification(service.vault, service.public_url, user.id, user.email)
    await _send(service, lambda domain, now: letters.verification(user.email, link, domain=domain, now=now))


async def send_reset(service: Service, user: User) -> None:
    link = links.reset(service.vault, service.public_url, user.id, reset_state(user))
    await _send(service, lambda domain, now: letters.reset(user.email, link, domain=domain, now=now))


async def send_invitation(service: Service, invitation: Invitation) -> None:
    link = members.link(service.vault, service.public_url, invitation)
    inviter = invitation.invited_by or "Somebody"
    await _send(
        service,
        lambda domain, now: letters.invitation(
            invitation.email, link, inviter=inviter, project=invitation.project_name, role=invitation.role,
            domain=domain, now=now,
        ),
    )


def reset_state(user: User) -> str:
    """What a link for a new password is good for: this password of this address."""
    return f"{user.email} {user.password_hash}"


async def _send(service: Service, write: Callable[[str, datetime], Letter]) -> None:
    settings = service.settings
    mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
    try:
        await mailer.send(write(mailer.domain, datetime.now(UTC)))
    except MailRefused as error:
        log.warning("a mail could not be sent", error=str(error))
