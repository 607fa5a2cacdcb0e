"""SMS: what, where and since when in one message, to a verified number, within the limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from tocsin.domain import phones as numbers
from tocsin.domain.deliveries import Delivered, Failed, Finish, Outcome, Retry, Suppressed
from tocsin.domain.errors import Detail, Refused, invalid_field
from tocsin.domain.incidents import Notification, format_duration
from tocsin.domain.sms_text import fitted
from tocsin.integrations.base import NO_PERMIT, Creator, Field, IntegrationType, Permit, Transports
from tocsin.storage.channels import phones, sms_limits
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.channels.sms_limits import BURST_MINUTES, Summary
from tocsin.storage.delivery.queue import Job
from tocsin.storage.notifying import blocked
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.sms import SmsRefused

NUMBER, CODE = "settings.phone_number", "settings.verification_code"
PAID_PLAN_REQUIRED = {
    "success": False,
    "error": "paid_plan_required",
    "message": "SMS integrations require a paid plan",
}
OFF = "SMS is not set up here; the operator can choose a provider with TOCSIN_SMS_PROVIDER"


class SmsIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::SmsIntegration"
    label: ClassVar[str] = "SMS"
    about: ClassVar[str] = "Sends a text message to a phone; needs the paid plan."
    fields: ClassVar[tuple[Field, ...]] = (
        Field("phone_number", "Phone number", "tel", "With its country, and without spaces.", "+15005550006"),
    )
    verification_field: ClassVar[Field | None] = Field(
        "verification_code", "Verification code", hint="The six digits that were sent to this number just now."
    )
    for_people: ClassVar[bool] = True
    why_no_flood: ClassVar[str] = "must be left out: text messages have a stricter rule of their own"

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        known = (stored or {}).get("phone_number")
        number = given.get("phone_number", known)
        if problem := numbers.problem(number):
            raise invalid_field(NUMBER, problem)
        if known is not None and number != known:
            raise invalid_field(NUMBER, "cannot be changed: create a new integration with a verified number")
        return {"phone_number": number}

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return f"SMS {settings['phone_number']}"

    async def before_create(self, tx: Tx, vault: Vault, creator: Creator, given: Mapping[str, Any]) -> None:
        """A paid plan, and in production the code that was sent to this number for this project."""
        if creator.plan != "paid":
            raise paid_plan_required()
        if not creator.production:
            return
        code = given.get("verification_code")
        if code is None or code == "":
            raise invalid_field(CODE, "is required; POST /api/v1/integrations/sms/send_verification_code sends it")
        if not isinstance(code, str):
            raise invalid_field(CODE, "must be a string")
        match await phones.redeem(tx, vault, creator.project_id, given["phone_number"], code.strip()):
            case "wrong":
                raise _bad_code("is not the code that was sent last")
            case "none":
                raise _bad_code("is not valid any more, or was never sent to this number; have a new one sent")

    def needs_permit(self, to: Sendable) -> bool:
        return True

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any] | Suppressed | Failed:
        """The plan as it is now, then the spending limits."""
        if await phones.plan(tx, job.project_id) != "paid":
            return Suppressed(blocked.PAID_PLAN_ONLY)
        return await sms_limits.check(tx, job, settings["phone_number"])

    def payload(self, notification: Notification) -> str:
        return text(notification)

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if transports.sms is None:
            return Failed(OFF)
        summary = permit.context.get("summary")
        message = summed_up(summary, transports.public_url) if summary else text(notification)
        try:
            taken = await transports.sms.send(settings["phone_number"], message, notification.delivery_id)
        except SmsRefused as error:
            return Failed(str(error), error.retry, error.status_code, retry_after=error.retry_after)
        return Delivered(taken.status_code, taken.response, receipt={"id": taken.id})

    async def after_attempt(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], outcome: Outcome, then: Retry | Finish
    ) -> None:
        """Store the provider's id for its report; what it never accepted does not count."""
        match outcome:
            case Delivered(receipt=receipt) if receipt and receipt["id"]:
                await phones.record_report(tx, receipt["id"], job.id, None, None)
            case Failed() if isinstance(then, Finish):
                await sms_limits.unsent(tx, job.id)


def text(notification: Notification) -> str:
    """One message: what, where, since when, then as much of the rest as fits; of a resolve, how long it took."""
    kind, name, message = notification.incident_type, notification.resource_name, notification.message
    since = _moment(notification.started_at)
    match notification.event:
        case "test":
            return fitted((f"Test, {since}: ", ""), (message,))
        case "notice":
            return fitted(("Tocsin: ", ""), (message,))
        case "resolved":
            took = f" after {format_duration(notification.duration or 0)}, since {since}"
            return fitted(("Resolved: ", " on ", took), (kind, name))
        case "acknowledged":
            return fitted((f"{notification.acknowledged_by} has: ", " on ", ""), (kind, name))
        case "reminder":
            return fitted(("Reminder: ", " on ", f" since {since}: ", ""), (kind, name, message))
        case "opened":
            return fitted(("", " on ", f" since {since}: ", ""), (kind, name, message))


def summed_up(summary: Summary, public_url: str) -> str:
    """One message for many: how many, how many of them are ongoing, which, and where to read more."""
    names = "; ".join(summary.names)
    many = f"{summary.count} more incidents within {BURST_MINUTES} min, {summary.ongoing} ongoing: "
    link = f"{public_url}/incidents"
    message = fitted((many, " ", ""), (names, link))
    return message if message.endswith(link) else fitted((many, ""), (names,))


def paid_plan_required() -> Refused:
    """403 with the specification's body."""
    return Refused(403, "paid_plan_required", str(PAID_PLAN_REQUIRED["message"]), body=PAID_PLAN_REQUIRED)


def _bad_code(problem: str) -> Refused:
    """422 for a code; the attempt that it used is recorded."""
    return Refused(422, "invalid_request", f"{CODE} {problem}", [Detail(CODE, problem)], keep=True)


def _moment(moment: datetime) -> str:
    """`24 Nov 02:45 UTC`: no year, to save space."""
    return moment.astimezone(UTC).strftime("%d %b %H:%M UTC")
