"""SMS: the code that verifies a number, and what the provider reports of messages that it had taken."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, post

from tocsin.api.caller import Caller
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain import phones as numbers
from tocsin.domain.errors import Refused
from tocsin.domain.short_text import fitted
from tocsin.integrations.sms import OFF, paid_plan_required
from tocsin.storage import phones
from tocsin.storage.phones import CODE_MINUTES, Wait
from tocsin.transports import sms
from tocsin.transports.sms import REPORT_PATH, Forged, Texting, TextRefused

log = structlog.get_logger(__name__)

TRY_LATER = 60
"""Seconds after which a caller may come back when the provider did not take the message."""


class CodeWanted(msgspec.Struct):
    """Which number shall be verified. Judged by the handler, because the specification prints its own refusals."""

    phone_number: Annotated[Any, msgspec.Meta(extra_json_schema={"type": "string"})] = None


class CodeSent(msgspec.Struct):
    success: bool
    message: str


@post("/api/v1/integrations/sms/send_verification_code", status_code=200)
async def send_verification_code(
    caller: Caller, service: Service, data: CodeWanted | None = None
) -> CodeSent:
    """Send a verification code

    Six digits by SMS, valid for 10 minutes, 5 tries and one integration of this project. A number gets 5 an hour, a
    project sends 20 a day.
    """
    if caller.plan != "paid":
        raise paid_plan_required()
    number = None if data is None else data.phone_number
    if number is None or number == "":
        raise _refused(422, "phone_number_required", "Phone number is required")
    if problem := numbers.problem(number):
        raise _refused(422, "phone_number_invalid", f"Phone number {problem}")
    if refusal := numbers.outside(number, service.settings.sms_countries):
        raise _refused(422, "phone_number_invalid", f"Phone number {number} {refusal}")
    texting = sms.texting(service.settings)
    if texting is None:
        raise _refused(503, "sms_unavailable", OFF)
    try:
        await _send_code(texting, caller, service, number)
    finally:
        await texting.close()
    return CodeSent(True, "Verification code sent successfully")


async def _send_code(texting: Texting, caller: Caller, service: Service, number: str) -> None:
    async with service.pool.acquire() as tx, tx.transaction():
        code = await phones.new_code(tx, service.vault, caller.project_id, number)
    if isinstance(code, Wait):
        seconds = math.ceil(code.seconds)
        raise _refused(
            429, "too_many_codes",
            f"{phones.CODES_PER_NUMBER} codes an hour for a number and {phones.CODES_PER_PROJECT} a day for a project "
            f"are the most; try again in {seconds} seconds",
            wait=seconds,
        )  # fmt: skip
    said = fitted((f"{code} is your Tocsin verification code. It is valid for {CODE_MINUTES} minutes.",), ())
    try:
        await texting.send(number, said)
    except TextRefused as error:
        log.warning("a verification code could not be sent", error=str(error))
        async with service.pool.acquire() as tx, tx.transaction():
            await phones.forget_code(tx, caller.project_id, number)
        if error.cure == "nothing":
            raise _refused(422, "phone_number_invalid", f"Nothing can be sent to {number}: {error}") from error
        message = f"The code could not be sent: {error}; try again in a minute"
        raise _refused(503, "sms_unavailable", message, wait=TRY_LATER) from error


@post(f"{REPORT_PATH}/{{delivery:str}}", status_code=204, include_in_schema=False)
async def report(request: Request[Any, Any, Any], delivery: str, service: Service) -> None:
    """What the provider says of a message that it had taken goes on the delivery's record."""
    texting, delivery_id = sms.texting(service.settings), ids.parse(ids.DELIVERY, delivery)
    if texting is None or texting.report_url is None or delivery_id is None:
        raise _forged()
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.scope["query_string"].decode("latin-1")
    url = f"{texting.report_url}/{delivery}" + (f"?{query}" if query else "")
    try:
        said = texting.provider.report(url, headers, await request.body())
    except Forged:
        raise _forged() from None
    if said is None:
        return
    async with service.pool.acquire() as tx, tx.transaction():
        await phones.reported(tx, said.id, delivery_id, said.said, said.error)


def _forged() -> Refused:
    return Refused(403, "forbidden", "This report is not signed by the provider that is set up here")


def _refused(status: int, code: str, message: str, wait: int | None = None) -> Refused:
    """A refusal in the shape that the specification prints for this call."""
    return Refused(
        status, code, message,
        headers=None if wait is None else {"Retry-After": str(wait)},
        body={"success": False, "error": code, "message": message},
    )  # fmt: skip


routes: list[Any] = [send_verification_code, report]
