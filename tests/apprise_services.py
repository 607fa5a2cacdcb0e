"""Stand-ins for the services that are wanted most through Apprise, strict after what their vendors document.

One HTTPS server on loopback is all of them: it tells them apart by the name that it is called by, and refuses what the
vendor would refuse. `Rerouted` leads their names and ports to it, behind the guard like every other call.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import trustme

from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as a service sees it. Header names are in lower case."""

    host: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        if not self.headers.get("content-type", "").startswith("application/json"):
            raise Wrong(415, "this is no JSON")
        try:
            return json.loads(self.body)
        except ValueError:
            raise Wrong(400, "this is no JSON") from None

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    @property
    def login(self) -> tuple[str, str]:
        """By the `Authorization` header (RFC 7617)."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return "", ""
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user, password


class Wrong(Exception):
    def __init__(self, status: int, said: object) -> None:
        super().__init__(status)
        self.status, self.said = status, said


Said = tuple[int, object]


def discord(asked: Asked) -> Said:
    """https://discord.com/developers/docs/resources/webhook#execute-webhook"""
    if asked.path != f"/api/webhooks/{ID}/{TOKEN}":
        raise Wrong(404, {"message": "Unknown Webhook", "code": 10015})
    said = asked.json
    if not (said.get("content") or said.get("embeds")) or len(said.get("content") or "") > 2000:
        raise Wrong(400, {"message": "Cannot send an empty message", "code": 50006})
    return 204, None


def telegram(asked: Asked) -> Said:
    """https://core.telegram.org/bots/api#sendmessage"""
    if not asked.path.startswith(f"/bot{BOT}/"):
        raise Wrong(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
    if asked.path != f"/bot{BOT}/sendMessage":
        raise Wrong(404, {"ok": False, "error_code": 404, "description": "Not Found"})
    said = asked.json
    if str(said.get("chat_id")) != CHAT:
        raise Wrong(400, {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"})
    if not 0 < len(said.get("text", "")) <= 4096:
        raise Wrong(400, {"ok": False, "error_code": 400, "description": "Bad Request: message text is empty"})
    return 200, {"ok": True, "result": {"message_id": 1}}


def pushover(asked: Asked) -> Said:
    """https://pushover.net/api#messages"""
    said = asked.form
    if asked.path != "/1/messages.json" or asked.method != "POST":
        raise Wrong(404, {"status": 0})
    if said.get("token") != [APP]:
        raise Wrong(400, {"token": "invalid", "errors": ["application token is invalid"], "status": 0})
    if said.get("user") != [USER]:
        raise Wrong(400, {"user": "invalid", "errors": ["user identifier is invalid"], "status": 0})
    if not 0 < len(said.get("message", [""])[0]) <= 1024 or len(said.get("title", [""])[0]) > 250:
        raise Wrong(400, {"message": "cannot be blank", "errors": ["message cannot be blank"], "status": 0})
    return 200, {"status": 1, "request": "647d2300-702c-4b38-8b2f-d56326ae460b"}


def pushbullet(asked: Asked) -> Said:
    """https://docs.pushbullet.com/#create-push"""
    if asked.login[0] != TOKEN and asked.headers.get("access-token") != TOKEN:
        raise Wrong(401, {"error": {"code": "invalid_access_token", "message": "Access token is missing or invalid."}})
    said = asked.json
    if asked.path != "/v2/pushes" or said.get("type") != "note" or not said.get("body"):
        raise Wrong(400, {"error": {"code": "invalid_request"}})
    return 200, {"iden": "ujpah72o0sjAoRtnM0jc"}


def twilio(asked: Asked) -> Said:
    """https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""
    if asked.login != (SID, SECRET):
        raise Wrong(401, {"code": 20003, "message": "Authenticate", "status": 401})
    if asked.path != f"/2010-04-01/Accounts/{SID}/Messages.json":
        raise Wrong(404, {"code": 20404, "status": 404})
    said = asked.form
    if not re.fullmatch(r"\+[1-9]\d{6,14}", said.get("To", [""])[0]):
        raise Wrong(400, {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400})
    if not said.get("From") or not 0 < len(said.get("Body", [""])[0]) <= 1600:
        raise Wrong(400, {"code": 21602, "message": "Message body is required", "status": 400})
    return 201, {"sid": "SM1", "status": "queued"}


def google_chat(asked: Asked) -> Said:
    """https://developers.google.com/workspace/chat/quickstart/webhooks"""
    if asked.query.get("key") != "K1" or asked.query.get("token") != TOKEN:
        raise Wrong(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
    if asked.path != "/v1/spaces/SPACE/messages" or not 0 < len(asked.json.get("text", "")) <= 4096:
        raise Wrong(400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}})
    return 200, {"name": "spaces/SPACE/messages/1"}


def workflows(asked: Asked) -> Said:
    """https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using"""
    if asked.path != f"/workflows/{ID}/triggers/manual/paths/invoke" or asked.query.get("sig") != TOKEN:
        raise Wrong(401, {"error": {"code": "DirectApiAuthorizationRequired"}})
    said = asked.json
    cards = [each["content"] for each in said["attachments"]
             if each["contentType"] == "application/vnd.microsoft.card.adaptive"]  # fmt: skip
    if said["type"] != "message" or not cards or any(card["type"] != "AdaptiveCard" for card in cards):
        raise Wrong(400, {"error": {"code": "TriggerInputSchemaMismatch"}})
    return 202, None


def gotify(asked: Asked) -> Said:
    """https://gotify.net/api-docs#/message/createMessage"""
    if asked.headers.get("x-gotify-key") != TOKEN and asked.query.get("token") != TOKEN:
        raise Wrong(401, {"error": "Unauthorized", "errorCode": 401})
    if asked.path != "/message" or not asked.json.get("message"):
        raise Wrong(400, {"error": "Bad Request", "errorCode": 400})
    return 200, {"id": 25}


def ntfy(asked: Asked) -> Said:
    """https://docs.ntfy.sh/publish/#publish-as-json"""
    if asked.login != ("ann", SECRET):
        raise Wrong(401, {"code": 40101, "http": 401, "error": "unauthorized"})
    said = asked.json
    if asked.path != "/" or not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", said.get("topic", "")):
        raise Wrong(400, {"code": 40009, "http": 400, "error": "invalid request: topic invalid"})
    return 200, {"id": "sPs71M8A2T", "event": "message", "topic": said["topic"]}


def matrix(asked: Asked) -> Said:
    """https://spec.matrix.org/latest/client-server-api/ with an access token"""
    if asked.path.startswith("/.well-known/"):
        raise Wrong(404, {"errcode": "M_NOT_FOUND"})
    if asked.path == "/_matrix/client/versions":
        return 200, {"versions": ["v1.11"]}
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        raise Wrong(401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unrecognised access token"})
    if asked.path.endswith("/account/whoami"):
        return 200, {"user_id": "@tocsin:matrix.example.com", "device_id": "D1"}
    if re.search(r"/(join|rooms/[^/]+/join)", asked.path) or asked.path.endswith("/joined_rooms"):
        return 200, {"room_id": "!r:matrix.example.com", "joined_rooms": ["!r:matrix.example.com"]}
    if "/state/m.room.encryption" in asked.path:
        raise Wrong(404, {"errcode": "M_NOT_FOUND", "error": "Event not found."})
    if re.search(r"/rooms/[^/]+/send/m\.room\.message/?", asked.path):
        if asked.json.get("msgtype") not in ("m.text", "m.notice") or not asked.json.get("body"):
            raise Wrong(400, {"errcode": "M_BAD_JSON"})
        return 200, {"event_id": "$1"}
    raise Wrong(404, {"errcode": "M_UNRECOGNIZED"})


def mattermost(asked: Asked) -> Said:
    """https://developers.mattermost.com/integrate/webhooks/incoming/"""
    if asked.path != f"/hooks/{HOOK}":
        raise Wrong(400, {"id": "web.incoming_webhook.invalid.app_error", "message": "Invalid webhook."})
    if not asked.json.get("text"):
        raise Wrong(400, {"id": "web.incoming_webhook.text.app_error", "message": "No text specified."})
    return 200, "ok"


def rocket_chat(asked: Asked) -> Said:
    """https://docs.rocket.chat/docs/integrations#incoming-webhook-script"""
    if asked.path != f"/hooks/{HOOK[:24]}/{HOOK[:24]}":
        raise Wrong(401, {"success": False, "error": "Invalid integration id or token provided."})
    said = json.loads(asked.form["payload"][0]) if asked.body.startswith(b"payload=") else json.loads(asked.body)
    if not said.get("text"):
        raise Wrong(400, {"success": False, "error": "text-or-attachments-required"})
    return 200, {"success": True}


def signal_api(asked: Asked) -> Said:
    """https://bbernhard.github.io/signal-cli-rest-api/#/Messages/post_v2_send"""
    said = asked.json
    if asked.path != "/v2/send" or said.get("number") != NUMBER or said.get("recipients") != [OTHER]:
        raise Wrong(400, {"error": "Couldn't process request - invalid number"})
    return 201, {"timestamp": "1700000000000"}


ID, TOKEN, SECRET, SID = "123456789012345678", "t" * 40, "s" * 32, "AC" + "a" * 32
BOT, CHAT, APP, USER, HOOK = "123456789:" + "b" * 35, "-1001234567890", "a" * 30, "u" * 30, "h" * 26
NUMBER, OTHER = "+15005550006", "+15005550009"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service with the fields that its stand-in accepts, and one that makes it refuse, with its status."""

    service: str
    host: str
    answer: Callable[[Asked], Said]
    fields: dict[str, str]
    wrong: dict[str, str]
    refusal: int
    url: str = ""


HOST = {"host": "chat.example.com"}
WANTED = {
    each.service: each
    for each in [
        Wanted("discord", "discord.com", discord, {"webhook_id": ID, "webhook_token": TOKEN},
               {"webhook_token": "x" * 40}, 404, f"https://discord.com/api/webhooks/{ID}/{TOKEN}"),
        Wanted("tgram", "api.telegram.org", telegram, {"bot_token": BOT, "targets": CHAT},
               {"bot_token": "123456789:" + "x" * 35}, 401, f"tgram://{BOT}/{CHAT}"),
        Wanted("pover", "api.pushover.net", pushover, {"user_key": USER, "token": APP}, {"token": "x" * 30}, 400,
               f"pover://{USER}@{APP}"),
        Wanted("pbul", "api.pushbullet.com", pushbullet, {"accesstoken": TOKEN}, {"accesstoken": "x" * 40}, 401,
               f"pbul://{TOKEN}"),
        Wanted("twilio", "api.twilio.com", twilio,
               {"account_sid": SID, "auth_token": SECRET, "from_phone": NUMBER, "targets": OTHER},
               {"auth_token": "f" * 32}, 401, f"twilio://{SID}:{SECRET}@15005550006/15005550009"),
        Wanted("gchat", "chat.googleapis.com", google_chat,
               {"workspace": "SPACE", "webhook_key": "K1", "webhook_token": TOKEN}, {"webhook_token": "x" * 40}, 401,
               f"https://chat.googleapis.com/v1/spaces/SPACE/messages?key=K1&token={TOKEN}"),
        Wanted("workflows", "prod-1.westus.logic.azure.com", workflows,
               {"host": "prod-1.westus.logic.azure.com", "workflow": ID, "signature": TOKEN}, {"signature": "x" * 40},
               401, f"workflows://prod-1.westus.logic.azure.com/{ID}/{TOKEN}"),
        Wanted("gotifys", "chat.example.com", gotify, {**HOST, "token": TOKEN}, {"token": "x" * 40}, 401,
               f"gotifys://chat.example.com/{TOKEN}"),
        Wanted("ntfys", "chat.example.com", ntfy, {**HOST, "user": "ann", "password": SECRET, "targets": "alerts"},
               {"password": "wrong"}, 401, f"ntfys://ann:{SECRET}@chat.example.com/alerts"),
        Wanted("matrixs", "chat.example.com", matrix, {**HOST, "token": TOKEN, "targets": "!r:matrix.example.com"},
               {"token": "x" * 40}, 401),
        Wanted("mmosts", "chat.example.com", mattermost, {**HOST, "token": HOOK}, {"token": "x" * 26}, 400,
               f"mmosts://chat.example.com/{HOOK}"),
        Wanted("rockets", "chat.example.com", rocket_chat, {**HOST, "webhook": f"{HOOK[:24]}/{HOOK[:24]}"},
               {"webhook": f"{'x' * 24}/{'x' * 24}"}, 401),
        Wanted("signals", "chat.example.com", signal_api, {**HOST, "from_phone": NUMBER, "targets": OTHER},
               {"from_phone": OTHER}, 400, f"signals://chat.example.com/{NUMBER}/{OTHER}"),
    ]
}  # fmt: skip


@dataclass(slots=True)
class Services:
    """The server: `answer` is how it answers, `asked` what came; `roots` is the file with its authority."""

    port: int
    roots: str
    answer: Callable[[Asked], Said] = lambda asked: (200, None)
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    authority = trustme.CA()
    roots = folder / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*sorted({each.host for each in WANTED.values()})).configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler, bind_and_activate=True)
    running = Services(server.server_address[1], str(roots))
    server.RequestHandlerClass = _handler(running)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(running: Services) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                (self.headers.get("Host") or "").partition(":")[0], self.command, url.path, dict(parse_qsl(url.query)),
                {name.lower(): value for name, value in self.headers.items()}, body,
            )  # fmt: skip
            running.asked.append(asked)
            try:
                status, said = running.answer(asked)
            except Wrong as wrong:
                status, said = wrong.status, wrong.said
            data = b"" if said is None else said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **running.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _any

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Rerouted(Dialer):
    """Leads every name, and port 443, to `port` of this machine; the guard decides as ever."""

    def __init__(self, guard: Guard, port: int) -> None:
        super().__init__(guard, resolve=to("127.0.0.1"))
        self._port = port

    async def connect(self, protocol: Any, host: str, port: int, *, tls: bool = False) -> Any:
        return await super().connect(protocol, host, self._port if port == 443 else port, tls=tls)


def to(*addresses: str) -> Callable[..., list[Any]]:
    """A resolver that gives each of these in turn, and the last one ever after."""
    left = list(addresses)

    def resolve(host: str, port: int, *_: object, **__: object) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


LOOPBACK = Guard([ipaddress.ip_network("127.0.0.0/8")])


