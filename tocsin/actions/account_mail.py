"""Mail about accounts: sent after the response, so that its timing reveals nothing, and never a reason to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg
import structlog

from tocsin.domain import account_mail
from tocsin.domain.mail import OutgoingMail
from tocsin.settings import Settings
from tocsin.storage.accounts import links, members
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.members import Invitation
from tocsin.storage.channels import mail_limits
from tocsin.storage.postgres.database import ASKING
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.smtp import Mailer, MailRefused

log = structlog.get_logger(__name__)


_under_way: set[asyncio.Task[None]] = set()


class Service(Protocol):
    """What these mails need of the service that sends them."""

    pool: asyncpg.Pool
    settings: Settings
    vault: Vault
    public_url: str


def later(mail: Coroutine[Any, Any, None]) -> None:
    """Send one of these in the background of an error response."""
    task = asyncio.create_task(mail)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def send_verification(service: Service, user: User) -> None:
    link = links.verification(service.vault, service.public_url, user.id, user.email)
    await _to_user(
        service, user, lambda domain, now: account_mail.verification(user.email, link, domain=domain, now=now)
    )


async def send_reset(service: Service, user: User) -> None:
    link = links.reset(service.vault, service.public_url, user)
    await _to_user(service, user, lambda domain, now: account_mail.reset(user.email, link, domain=domain, now=now))


async def send_already_registered(service: Service, user: User) -> None:
    """Somebody registered with the address of an account: an unverified one gets its link again."""
    if not user.verified:
        await send_verification(service, user)
        return
    link = f"{service.public_url}/forgot-password"
    await _to_user(
        service, user, lambda domain, now: account_mail.already_registered(user.email, link, domain=domain, now=now)
    )


async def send_failed_sign_ins(service: Service, user: User) -> None:
    link = f"{service.public_url}/forgot-password"
    await _to_user(
        service, user, lambda domain, now: account_mail.failed_sign_ins(user.email, link, domain=domain, now=now)
    )


async def send_invitation(service: Service, invitation: Invitation) -> None:
    link = members.link(service.vault, service.public_url, invitation)
    inviter = invitation.invited_by or "Somebody"
    await _send(
        service,
        lambda domain, now: account_mail.invitation(
            invitation.email, link, inviter=inviter, project=invitation.project_name, role=invitation.role,
            domain=domain, now=now,
        ),
    )


async def _to_user(service: Service, user: User, write: Callable[[str, datetime], OutgoingMail]) -> None:
    """To an unverified address, within a daily limit."""
    ASKING.set(None)  # whoever asked has their answer, and may have gone
    if not user.verified:
        async with service.pool.acquire() as tx:
            if not await mail_limits.write(tx, user.email):
                log.warning("daily mail limit for this address reached; mail not sent")
                return
    await _send(service, write)


async def _send(service: Service, write: Callable[[str, datetime], OutgoingMail]) -> None:
    settings = service.settings
    mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
    try:
        await mailer.send(write(mailer.domain, datetime.now(UTC)))
    except MailRefused as error:
        log.warning("a mail could not be sent", error=str(error))
