"""Daily mail limits (UTC): invitations, account mail to unverified addresses, and notifications to addresses that no
account of their project has verified.

Projects that the operator creates have no limit; self-registered ones have. The limit of an address counts per
project, so that no project can use up another's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from tocsin.domain.accounts import same_address
from tocsin.domain.deliveries import Suppressed
from tocsin.storage.delivery import health
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import Tx, folded

NOTIFICATIONS_OF_PROJECT, NOTIFICATIONS_TO_ONE = 2_000, 500
INVITATIONS_OF_PROJECT, INVITATIONS_TO_ONE = 50, 10
LETTERS_TO_ONE = 10
"""Verifications and the like, to an unverified address."""

TODAY = "(now() AT TIME ZONE 'UTC')::date"

TAKE = f"""
WITH old AS (
    DELETE FROM mail_days WHERE (subject, day) IN (
        SELECT subject, day FROM mail_days WHERE day < {TODAY} - 1 LIMIT 10 FOR UPDATE SKIP LOCKED)
)
INSERT INTO mail_days AS m (subject, day, sent) VALUES ($1, {TODAY}, 1)
ON CONFLICT (subject, day) DO UPDATE SET sent = m.sent + 1 WHERE m.sent < $2
RETURNING true
"""

SENT = f"SELECT sent FROM mail_days WHERE subject = $1 AND day = {TODAY}"

# Whether a project's notifications are counted, and for this address: not for that of an account of the project.
COUNTED = f"""
SELECT NOT EXISTS (SELECT FROM members m JOIN users u ON u.id = m.user_id
                   WHERE m.project_id = p.id AND u.email_verified_at IS NOT NULL
                     AND {folded("u.email")} = {folded("$2::text")})
FROM projects p WHERE p.id = $1 AND p.made_by IS NOT NULL
"""

HAS_CEILING = "SELECT made_by IS NOT NULL FROM projects WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Today:
    """What a project has sent today. `notifications` is None if they have no limit."""

    notifications: int | None
    invitations: int


async def check(tx: Tx, job: Job, address: str) -> Suppressed | None:
    """Why a notification may not go to the address today, or None. Once allowed, it is allowed on every attempt."""
    if job.attempt > 1 or not await tx.fetchval(COUNTED, job.project_id, address):
        return None
    ceilings = (
        (f"to {address}", _one(job.project_id, address), NOTIFICATIONS_TO_ONE),
        ("for this project", _notifications(job.project_id), NOTIFICATIONS_OF_PROJECT),
    )
    for whose, subject, most in ceilings:
        if not await take(tx, subject, most):
            await _tell_once(tx, job, subject, whose, most)
            return Suppressed(f"the limit of {most} mails a day {whose} is reached")
    return None


async def invite(tx: Tx, project_id: UUID, address: str) -> str | None:
    """The limit that is reached today, so that no invitation is sent to the address; None if it may be sent."""
    if not await take(tx, f"invitations to {same_address(address)}", INVITATIONS_TO_ONE):
        return f"{INVITATIONS_TO_ONE} invitations to one address"
    if not await take(tx, _invitations(project_id), INVITATIONS_OF_PROJECT):
        return f"{INVITATIONS_OF_PROJECT} invitations of one project"
    return None


async def write(tx: Tx, address: str) -> bool:
    """Whether one more account mail may go to an unverified address today."""
    return await take(tx, f"letters to {same_address(address)}", LETTERS_TO_ONE)


async def today(tx: Tx, project_id: UUID) -> Today:
    """What the project has sent today, to show its members."""
    has_ceiling = await tx.fetchval(HAS_CEILING, project_id)
    sent = await tx.fetchval(SENT, _key(_notifications(project_id))) or 0
    return Today(sent if has_ceiling else None, await tx.fetchval(SENT, _key(_invitations(project_id))) or 0)


async def take(tx: Tx, subject: str, most: int) -> bool:
    """Count one more mail today; False, without counting it, if `most` is reached."""
    return bool(await tx.fetchval(TAKE, _key(subject), most))


async def _tell_once(tx: Tx, job: Job, subject: str, whose: str, most: int) -> None:
    if await take(tx, f"told of {subject}", 1):
        message = (
            f"No more mails {whose} today: the limit of {most} a day (UTC) is reached. "
            "Incidents are still sent to the other integrations and appear in the list of incidents."
        )
        await health.notify_people(tx, job.project_id, message, exclude=job.integration_id)


def _one(project_id: UUID, address: str) -> str:
    return f"notifications of {project_id} to {same_address(address)}"


def _notifications(project_id: UUID) -> str:
    return f"notifications of {project_id}"


def _invitations(project_id: UUID) -> str:
    return f"invitations of {project_id}"


def _key(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
