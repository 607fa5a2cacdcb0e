"""Twilio: its Messages resource, and the status callbacks and replies that it signs.

https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/messaging/guides/webhook-request
https://www.twilio.com/docs/messaging/twiml/message
https://www.twilio.com/docs/usage/security#validating-requests
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from xml.sax.saxutils import escape

from tocsin.domain.deliveries import ATTEMPT_TIMEOUT
from tocsin.settings import Settings
from tocsin.settings import Twilio as Account
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Answer, Http, Unreachable
from tocsin.transports.sms import Accepted, InvalidSignature, Provider, Reply, Report, SmsRefused

VERSION = "2010-04-01"

PERMANENT = frozenset({21211, 21217, 21265, 21266, 21610, 21614, 21635})
"""Error codes after which no further attempt can succeed: the number is none, no mobile phone's, a short code, a
landline, the sender's own, or its owner has unsubscribed. https://www.twilio.com/docs/api/errors
"""

NO_RECIPIENT = 21604
"""The response to a message without `To` from a known account. https://www.twilio.com/docs/api/errors/21604"""

FINAL = {"delivered": None, "read": None, "undelivered": "could not be delivered", "failed": "failed"}
"""Final statuses, each with its problem."""

_SID = re.compile(r'"sid":\s*"((?:SM|MM)[0-9a-fA-F]{32})"')
_STATUS = re.compile(r'"status":\s*"([a-z_]+)"')


class Twilio(Provider):
    """The host is the operator's own choice, so the guard on projects' addresses does not apply to it."""

    name: ClassVar[str] = "Twilio"

    def __init__(self, account: Account) -> None:
        self._account = account
        self._http = Http(Guard(EVERYWHERE), patience=ATTEMPT_TIMEOUT)
        self._url = f"{account.api_url}/{VERSION}/Accounts/{account.account_sid}/Messages.json"
        credentials = b64encode(f"{account.account_sid}:{account.auth_token}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }

    @classmethod
    def from_settings(cls, settings: Settings) -> Twilio | None:
        return cls(settings.sms) if isinstance(settings.sms, Account) else None

    async def send(self, number: str, text: str, reports_to: str | None) -> Accepted:
        sender = self._account.sender
        form = {
            "To": number,
            "MessagingServiceSid" if sender.startswith("MG") else "From": sender,
            "Body": text,
        }
        if reports_to:
            form["StatusCallback"] = reports_to
        return _taken(await self._post(form))

    async def check(self) -> str:
        """By a message without a recipient, which costs nothing."""
        answer = await self._post({})
        if f'"code": {NO_RECIPIENT}'.replace(" ", "") not in answer.text.replace(" ", ""):
            raise _refused(answer)
        return "Twilio answers and knows the account"

    async def _post(self, form: Mapping[str, str]) -> Answer:
        try:
            return await self._http.post(self._url, urlencode(form).encode(), self._headers)
        except Unreachable as error:
            raise SmsRefused(f"Twilio: {error}") from error

    def report(self, url: str, headers: Mapping[str, str], body: bytes) -> Report | None:
        values = self._signed(url, headers, body)
        status, sid = values.get("MessageStatus", ""), values.get("MessageSid", "")
        if status not in FINAL or not sid:
            return None
        problem, code = FINAL[status], values.get("ErrorCode")
        if problem is not None:
            problem = f"Twilio: it {problem}"
            if code:
                problem += f" (error {code}, https://www.twilio.com/docs/api/errors/{code})"
        return Report(sid, f"{sid}: {status}", problem)

    def reply(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        values = self._signed(url, headers, body)
        return Reply(values.get("From", ""), values.get("Body", ""))

    def answer(self, text: str | None) -> tuple[str, str]:
        said = f"<Message>{escape(text)}</Message>" if text else ""
        return f'<?xml version="1.0" encoding="UTF-8"?><Response>{said}</Response>', "text/xml"

    def _signed(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The form that Twilio sent. Raises `InvalidSignature`."""
        try:
            form = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise InvalidSignature from error
        given = headers.get("x-twilio-signature", "").encode("latin-1", "replace")
        # A proxy in between decides whether the URL names the default port.
        right = [signature(self._account.auth_token, each, form).encode() for each in _with_and_without_port(url)]
        if not any(hmac.compare_digest(given, each) for each in right):
            raise InvalidSignature
        return dict(form)

    async def close(self) -> None:
        await self._http.close()


def signature(auth_token: str, url: str, form: list[tuple[str, str]]) -> str:
    """What `X-Twilio-Signature` must be: HMAC-SHA1 of the address with all form fields, sorted by name, behind it."""
    signed = url + "".join(name + value for name, value in sorted(form))
    return b64encode(hmac.digest(auth_token.encode(), signed.encode(), hashlib.sha1)).decode()


def _taken(answer: Answer) -> Accepted:
    if 200 <= answer.status < 300:
        sid, status = _SID.search(answer.text), _STATUS.search(answer.text)
        if sid is None:
            # Accepted all the same: another attempt would be a duplicate.
            return Accepted("", answer.status, "Accepted by Twilio, without an id")
        return Accepted(sid[1], answer.status, f"{sid[1]}: {status[1] if status else 'taken'}")
    raise _refused(answer)


def _refused(answer: Answer) -> SmsRefused:
    """By the status, and by the codes that are always final: Twilio changes the others from time to time."""
    try:
        payload = json.loads(answer.text)
        code, words = int(payload["code"]), " ".join(str(payload["message"]).split())[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        code, words = 0, "a response that is not of its documented form"
    what = f"Twilio answered {answer.status}" + (f", error {code}: {words}" if code else f", {words}")
    if answer.status == 429 or answer.status >= 500 or answer.status in (401, 403, 404, 408):
        asked = answer.headers.get("retry-after", "").strip()
        wait = float(asked[:9]) if asked.isascii() and asked.isdigit() else None
        return SmsRefused(what, "scheduled", answer.status, wait)
    return SmsRefused(what, "never" if code in PERMANENT else "twice", answer.status)


def _with_and_without_port(url: str) -> Iterator[str]:
    yield url
    parts = urlsplit(url)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    host = parts.netloc.removesuffix(f":{usual}")
    yield urlunsplit(parts._replace(netloc=host))
    if parts.port in (None, usual):
        yield urlunsplit(parts._replace(netloc=f"{host}:{usual}"))
