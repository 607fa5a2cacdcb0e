"""SMS: the code that verifies a number, the provider's delivery reports, and what people reply."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from litestar import Request, Response, post

from tocsin.actions import deliveries, phone_codes, replies
from tocsin.actions.base import Actor, system
from tocsin.api.service import Service
from tocsin.domain import ids, phones
from tocsin.domain.errors import Refused
from tocsin.storage.postgres.database import transaction
from tocsin.transports import sms
from tocsin.transports.sms import REPLY_PATH, REPORT_PATH, InvalidSignature

MAX_REPLY_LENGTH = 64 * 1024


class CodeWanted(msgspec.Struct):
    """The number to verify. Validated by the handler, because the specification prints its own errors."""

    LOOSE: ClassVar = ("phone_number",)
    phone_number: Annotated[Any, msgspec.Meta(extra_json_schema={"type": "string"})] = None


class CodeSent(msgspec.Struct):
    success: bool
    message: str


@post("/api/v1/integrations/sms/send_verification_code", status_code=200)
async def send_verification_code(
    caller: Actor, service: Service, data: CodeWanted | None = None
) -> CodeSent:
    """Send a verification code

    Six digits by SMS, valid for 10 minutes, 5 attempts and one integration of this project. A number gets 5 an hour, a
    project sends 20 a day. All errors have one shape: `paid_plan_required` and `address_not_verified` (whoever created
    the project for themselves has not verified their mail address) 403, `phone_number_required` and
    `phone_number_invalid` 422, `too_many_codes` 429, `sms_unavailable` 503.
    Only in production is the code checked: elsewhere any code is accepted.
    """
    number = None if data is None else data.phone_number
    await phone_codes.send(service.pool, caller, service.vault, service.settings, number)
    return CodeSent(True, "Verification code sent successfully")


@post(f"{REPORT_PATH}/{{delivery:str}}", status_code=204, include_in_schema=False)
async def report(request: Request[Any, Any, Any], delivery: str, service: Service) -> None:
    """Record the provider's report on a message with its delivery."""
    sms_sender, delivery_id = sms.sms_sender(service.settings), ids.parse(ids.DELIVERY, delivery)
    if sms_sender is None or sms_sender.report_url is None or delivery_id is None:
        raise _forged()
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.scope["query_string"].decode("latin-1")
    url = f"{sms_sender.report_url}/{delivery}" + (f"?{query}" if query else "")
    try:
        status = sms_sender.provider.report(url, headers, await request.body())
    except InvalidSignature:
        raise _forged() from None
    if status is None:
        return
    async with transaction(service.pool) as tx:
        await deliveries.report(tx, system(), status.id, delivery_id, status.response, status.error)


@post(REPLY_PATH, status_code=200, include_in_schema=False, request_max_body_size=MAX_REPLY_LENGTH)
async def reply(request: Request[Any, Any, Any], service: Service) -> Response[str]:
    """`ack` or `1` acknowledges the incident that the number was last told of; the response says which that was."""
    sms_sender = sms.sms_sender(service.settings)
    if sms_sender is None or sms_sender.reply_url is None:
        raise _forged()
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.scope["query_string"].decode("latin-1")
    url = sms_sender.reply_url + (f"?{query}" if query else "")
    try:
        said = sms_sender.provider.reply(url, headers, await request.body())
    except InvalidSignature:
        raise _forged() from None
    words = None
    if phones.problem(said.number) is None:
        async with transaction(service.pool) as tx:
            words = await replies.by_sms(tx, system(), service.vault, said.number, said.text)
    text, media_type = sms_sender.provider.answer(words)
    return Response(text, media_type=media_type)


def _forged() -> Refused:
    return Refused(403, "forbidden", "This is not signed by the provider that is set up here")


routes: list[Any] = [send_verification_code, report, reply]
