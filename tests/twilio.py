"""A far end that speaks Twilio's Messages resource as it is documented, and refuses whatever is not.

https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/api/errors
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.waiting import poll

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "4uth-t0ken-of-the-tests-0nly"
FROM = "+15005550006"
SERVICE_SID = "MG" + "fedcba9876543210" * 2

KNOWN = {"To", "From", "MessagingServiceSid", "Body", "StatusCallback"}
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"

Said = tuple[int, dict[str, Any], Mapping[str, str]]
"""An answer: status, body, more headers."""

_sids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """One message that was taken."""

    sid: str
    form: Mapping[str, str]

    @property
    def to(self) -> str:
        return self.form["To"]

    @property
    def body(self) -> str:
        return self.form["Body"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to be given in the place of the next."""

    status: int
    code: int
    message: str
    headers: Mapping[str, str]


Ending = Literal["whole", "garbage", "cut"]
"""What becomes of an answer's body, once its head was sent."""


class Twilio:
    """The server, on a thread of its own. `messages` are those that it took, `mistakes` what was asked wrongly."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.mistakes: list[str] = []
        self.refusals: deque[Refusal] = deque()
        self.next_sid: str | None = None
        self.ending: Ending = "whole"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environ(self, sender: str = FROM) -> dict[str, str]:
        """The settings that lead here."""
        return {
            "TOCSIN_SMS_PROVIDER": "twilio",
            "TOCSIN_TWILIO_ACCOUNT_SID": ACCOUNT_SID,
            "TOCSIN_TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TOCSIN_TWILIO_FROM": sender,
            "TOCSIN_TWILIO_API_URL": self.url,
        }

    def refuse(self, status: int, code: int, message: str, **headers: str) -> None:
        """Answer the next request like this."""
        self.refusals.append(Refusal(status, code, message, headers))

    def to(self, number: str) -> list[Message]:
        return [message for message in list(self.messages) if message.to == number]

    def wait_for(self, count: int = 1, *, to: str, timeout: float = 15.0) -> list[Message]:
        """The messages to a number, once there are so many."""
        return poll(
            lambda: found if len(found := self.to(to)) >= count else None,
            timeout=timeout, what=lambda: f"{count} messages to {to}; there are {self.messages} {self.mistakes}",
        )

    def report(
        self, message: Message, status: str, error_code: int | None = None, token: str = AUTH_TOKEN
    ) -> tuple[str, dict[str, str], bytes]:
        """A status callback as Twilio posts it to the message's `StatusCallback`: path, signed headers and body."""
        form = {
            "AccountSid": ACCOUNT_SID, "ApiVersion": "2010-04-01", "From": FROM, "To": message.to,
            "MessageSid": message.sid, "MessageStatus": status, "SmsSid": message.sid, "SmsStatus": status,
        }  # fmt: skip
        if error_code is not None:
            form["ErrorCode"] = str(error_code)
        url = message.form["StatusCallback"]
        return self._signed(url, form, token)

    def reply(
        self, url: str, number: str, text: str, token: str = AUTH_TOKEN
    ) -> tuple[str, dict[str, str], bytes]:
        """What a phone replied, as Twilio posts it to `url`.

        https://www.twilio.com/docs/messaging/guides/webhook-request
        """
        sid = f"SM{next(_sids):032x}"
        return self._signed(url, {
            "MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "AccountSid": ACCOUNT_SID, "From": number,
            "To": FROM, "Body": text, "NumMedia": "0", "NumSegments": "1", "SmsStatus": "received",
            "ApiVersion": "2010-04-01", "FromCity": "", "FromState": "CA", "FromZip": "", "FromCountry": "US",
            "ToCity": "", "ToState": "", "ToZip": "", "ToCountry": "US",
        }, token)  # fmt: skip

    @staticmethod
    def _signed(url: str, form: dict[str, str], token: str) -> tuple[str, dict[str, str], bytes]:
        said = url + "".join(name + form[name] for name in sorted(form))
        signature = base64.b64encode(hmac.new(token.encode(), said.encode(), hashlib.sha1).digest()).decode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
        return urlsplit(url).path, headers, urlencode(form, encoding="utf-8").encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, path: str, headers: Mapping[str, str], body: str) -> Said:
        credentials = base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
        if headers["authorization"] != f"Basic {credentials}":
            return self._wrong(401, 20003, "Authenticate")
        if path != MESSAGES:
            return self._wrong(404, 20404, f"The requested resource {path} was not found")
        if self.refusals:
            refusal = self.refusals.popleft()
            return (*_error(refusal.status, refusal.code, refusal.message), refusal.headers)
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True)
        form = dict(pairs)
        if headers["content-type"] != "application/x-www-form-urlencoded" or len(pairs) != len(form):
            return self._wrong(400, 20001, "The form cannot be read")
        if unknown := form.keys() - KNOWN:
            return self._wrong(400, 20001, f"Unknown parameters: {sorted(unknown)}")
        return self._message(form)

    def _message(self, form: dict[str, str]) -> Said:
        service = form.get("MessagingServiceSid")
        if not form.get("To"):
            return self._wrong(400, 21604, "A 'To' phone number is required.")
        if not re.fullmatch(r"\+[1-9]\d{6,14}", form["To"]):
            return self._wrong(400, 21211, f"The 'To' number {form['To']} is not a valid phone number.")
        if ("From" in form) == (service is not None):
            return self._wrong(400, 21603, "A 'From' phone number is required.")
        if service is not None and not re.fullmatch(r"MG[0-9a-fA-F]{32}", service):
            return self._wrong(400, 21701, "The Messaging Service does not exist")
        if "From" in form and not re.fullmatch(r"\+[1-9]\d{6,14}", form["From"]):
            return self._wrong(400, 21212, f"The 'From' number {form['From']} is not a valid phone number")
        if not form.get("Body"):
            return self._wrong(400, 21602, "Message body is required.")
        if len(form["Body"]) > 1600:
            return self._wrong(400, 21617, "The concatenated message body exceeds the 1600 character limit")
        callback = urlsplit(form.get("StatusCallback", "http://example.com/"))
        if callback.scheme not in ("http", "https") or not callback.hostname or "_" in callback.hostname:
            return self._wrong(400, 21609, "The StatusCallback URL is not a valid URL.")
        message = Message(self.next_sid or f"SM{next(_sids):032x}", form)
        self.messages.append(message)
        uri = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{message.sid}"
        return 201, {
            "account_sid": ACCOUNT_SID, "api_version": "2010-04-01", "body": form["Body"],
            "date_created": "Thu, 24 Aug 2023 05:01:45 +0000", "date_sent": None,
            "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000", "direction": "outbound-api", "error_code": None,
            "error_message": None, "from": form.get("From"), "messaging_service_sid": service, "num_media": "0",
            "num_segments": "0" if service else "1", "price": None, "price_unit": None, "sid": message.sid,
            "status": "accepted" if service else "queued", "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": form["To"], "uri": f"{uri}.json",
        }, {}  # fmt: skip

    def _wrong(self, status: int, code: int, message: str) -> Said:
        self.mistakes.append(message)
        return (*_error(status, code, message), {})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        twilio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, said, more = twilio._answer(self.path, headers, body)
                encoded = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                for name, value in more.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                match twilio.ending:
                    case "whole":
                        self.wfile.write(encoded)
                    case "garbage":
                        self.wfile.write(b"\xff" * len(encoded))
                    case "cut":
                        self.wfile.write(encoded[:20])
                        self.close_connection = True

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing: pytest has its own ways to tell."""

        return Handler


def _error(status: int, code: int, message: str) -> tuple[int, dict[str, Any]]:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return status, {"code": code, "message": message, "more_info": more, "status": status}
