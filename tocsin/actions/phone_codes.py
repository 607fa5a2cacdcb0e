"""The code that verifies a phone number before an SMS integration is created with it."""

from __future__ import annotations

import math
from uuid import UUID

import asyncpg
import structlog

from tocsin.actions.base import Actor, unrecorded
from tocsin.domain import phones as numbers
from tocsin.domain.errors import Refused
from tocsin.domain.sms_text import fitted
from tocsin.integrations.sms import OFF, paid_plan_required
from tocsin.settings import Settings
from tocsin.storage.channels import phones
from tocsin.storage.channels.phones import CODE_MINUTES, Wait
from tocsin.storage.notifying import unverified_owners
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports import sms
from tocsin.transports.sms import SmsRefused, SmsSender

log = structlog.get_logger(__name__)

NOT_VERIFIED = "Verify your mail address first, by the link that was mailed to you"
TRY_LATER = 60
"""Seconds after which a caller may retry if the provider did not accept the message."""


@unrecorded("a code by itself changes nothing")
async def send(pool: asyncpg.Pool, actor: Actor, vault: Vault, settings: Settings, number: object) -> None:
    """Send a code to the number, good for one integration of the project. No transaction is open while it is sent.

    Raises `Refused`, in the shape that the specification prints for this call: 403 without the paid plan or if the
    project's creator is a stranger, 422 for the number, 429 if too many were sent, 503 if none can be.
    """
    if actor.plan != "paid":
        raise paid_plan_required()
    if number is None or number == "":
        raise _refused(422, "phone_number_required", "Phone number is required")
    problem = numbers.problem(number)
    if problem or not isinstance(number, str):
        raise _refused(422, "phone_number_invalid", f"Phone number {problem}")
    if refusal := numbers.outside(number, settings.sms_countries):
        raise _refused(422, "phone_number_invalid", f"Phone number {number} {refusal}")
    sms_sender = sms.sms_sender(settings)
    if sms_sender is None:
        raise _refused(503, "sms_unavailable", OFF)
    try:
        await _send(pool, vault, sms_sender, actor.project_id, number)
    finally:
        await sms_sender.close()


async def _send(pool: asyncpg.Pool, vault: Vault, sms_sender: SmsSender, project_id: UUID, number: str) -> None:
    async with pool.acquire() as tx, tx.transaction():
        if await unverified_owners.made(tx, project_id):
            raise _refused(403, "address_not_verified", NOT_VERIFIED)
        code = await phones.new_code(tx, vault, project_id, number)
    if isinstance(code, Wait):
        seconds = math.ceil(code.seconds)
        raise _refused(
            429, "too_many_codes",
            f"{phones.CODES_PER_NUMBER} codes an hour for a number and {phones.CODES_PER_PROJECT} a day for a project "
            f"are the most; try again in {seconds} seconds",
            wait=seconds,
        )  # fmt: skip
    message = fitted((f"{code} is your Tocsin verification code. It is valid for {CODE_MINUTES} minutes.",), ())
    try:
        await sms_sender.send(number, message)
    except SmsRefused as error:
        log.warning("a verification code could not be sent", error=str(error))
        async with pool.acquire() as tx, tx.transaction():
            await phones.forget_code(tx, project_id, number)
        if error.retry == "never":
            raise _refused(422, "phone_number_invalid", f"Nothing can be sent to {number}: {error}") from error
        message = f"The code could not be sent: {error}; try again in a minute"
        raise _refused(503, "sms_unavailable", message, wait=TRY_LATER) from error


def _refused(status: int, code: str, message: str, wait: int | None = None) -> Refused:
    """A refusal in the shape that the specification prints for this call."""
    return Refused(
        status, code, message,
        headers=None if wait is None else {"Retry-After": str(wait)},
        body={"success": False, "error": code, "message": message},
    )  # fmt: skip
