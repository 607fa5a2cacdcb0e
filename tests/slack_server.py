"""A far end that speaks those of Slack's methods that we use as they are documented, and refuses whatever is not.

https://docs.slack.dev/reference/methods/ (api.test, oauth.v2.access, conversations.invite, chat.postMessage,
chat.update),
https://docs.slack.dev/authentication/installing-with-oauth, https://docs.slack.dev/reference/block-kit/blocks,
https://docs.slack.dev/authentication/verifying-requests-from-slack, https://docs.slack.dev/apis/web-api/rate-limits
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from tests.slack_blocks import complaint
from tests.slack_workspace import Fault, Posted, Workspace
from tests.waiting import poll

CLIENT_ID = "3336676.569200954261"
CLIENT_SECRET = "sl4ck-cl1ent-s3cret-of-the-tests"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BOT_SCOPES, USER_SCOPES = {"chat:write", "incoming-webhook"}, {"channels:write"}

POST_ARGUMENTS = {"channel", "text", "blocks", "unfurl_links", "unfurl_media", "thread_ts", "metadata", "mrkdwn"}
UPDATE_ARGUMENTS = {"channel", "ts", "text", "blocks", "metadata"}

Said = tuple[int, dict[str, Any], Mapping[str, str]]
"""An answer: status, body, more headers."""

_numbers = itertools.count(1)


class SlackServer:
    """The server, on threads of its own. `mistakes` is what was asked wrongly, `told` what pressers were told."""

    def __init__(self) -> None:
        self.messages: list[Posted] = []
        self.mistakes: list[str] = []
        self.calls: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.answers_go = threading.Event()
        self.answers_go.set()
        self.change: dict[str, Any] = {}
        """Fields to replace in the answer of oauth.v2.access."""
        self._workspaces: dict[str, Workspace] = {}
        self._codes: dict[str, tuple[Workspace, str]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environ(self) -> dict[str, str]:
        """The settings that lead here."""
        return {
            "TOCSIN_SLACK_CLIENT_ID": CLIENT_ID,
            "TOCSIN_SLACK_CLIENT_SECRET": CLIENT_SECRET,
            "TOCSIN_SLACK_SIGNING_SECRET": SIGNING_SECRET,
            "TOCSIN_SLACK_API_URL": f"{self.url}/api/",
            "TOCSIN_SLACK_AUTHORIZE_URL": f"{self.url}/oauth/v2/authorize",
        }

    def close(self) -> None:
        self.answers_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # ---------------------------------------------------------------------------------------- what a person does

    def workspace(self, name: str = "My Workspace", channel: str = "#alerts") -> Workspace:
        number = next(_numbers)
        made = Workspace(
            f"T{number:09d}", name, f"C{number:09d}", channel,
            f"xoxb-{number}-b0t-s3cret", f"xoxp-{number}-us3r-s3cret", f"U{number:09d}",
        )  # fmt: skip
        self._workspaces[made.id] = made
        return made

    def consent(self, oauth_url: str, workspace: Workspace) -> str:
        """Where the browser is sent to when its person consents (path and query)."""
        asked = self._asked(oauth_url)
        code = f"{next(_numbers)}.{'c0de' * 8}"
        self._codes[code] = workspace, asked["redirect_uri"]
        return self._back(asked, code=code)

    def deny(self, oauth_url: str) -> str:
        """The same when they press Cancel."""
        return self._back(self._asked(oauth_url), error="access_denied")

    def press(
        self, message: Posted, label: str = "Resolve", *, user: str = "ann", at: float | None = None,
        secret: str = SIGNING_SECRET, **changes: Any,
    ) -> tuple[dict[str, str], bytes]:
        """A press of a message's button, as Slack posts it: signed headers and body."""
        workspace = message.workspace
        assert label in message.buttons, "the message has no such button"
        button = message.buttons[label]
        said = {
            "type": "block_actions",
            "user": {"id": f"U{user}", "username": user, "name": user, "team_id": workspace.id},
            "api_app_id": "A02", "token": "Shh_its_a_seekrit",
            "container": {
                "type": "message", "message_ts": message.ts, "channel_id": workspace.channel_id, "is_ephemeral": False,
            },
            "trigger_id": "12466734323.1395872398", "team": {"id": workspace.id, "domain": "example"},
            "enterprise": None, "is_enterprise_install": False,
            "channel": {"id": workspace.channel_id, "name": workspace.channel.strip("#")},
            "response_url": f"{self.url}/actions/{workspace.id}/{next(_numbers)}/s3cret",
            "actions": [{**button, "block_id": "b1", "action_ts": f"{time.time():.6f}"}],
            **changes,
        }  # fmt: skip
        return self.signed(urlencode({"payload": json.dumps(said)}).encode(), at=at, secret=secret)

    def signed(
        self, body: bytes, *, at: float | None = None, secret: str = SIGNING_SECRET
    ) -> tuple[dict[str, str], bytes]:
        moment = str(int(time.time() if at is None else at))
        digest = hmac.new(secret.encode(), b"v0:" + moment.encode() + b":" + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": moment, "X-Slack-Signature": f"v0={digest}",
        }  # fmt: skip
        return headers, body

    def fail(
        self, method: str, error: str = "", status: int = 200, *, done: bool = False, **headers: str
    ) -> None:
        """Answer the next call of a method like this; with `done`, after having carried it out."""
        body = {"ok": False, "error": error} if error else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(method, status, body, named, done))

    def in_(self, workspace: Workspace) -> list[Posted]:
        with self._lock:
            return [message for message in self.messages if message.workspace is workspace]

    def wait_for(self, workspace: Workspace, text: str, count: int = 1, *, timeout: float = 15.0) -> list[Posted]:
        """The workspace's messages that say `text` now, once there are so many."""

        def look() -> list[Posted] | None:
            found = [message for message in self.in_(workspace) if text in message.text]
            return found if len(found) >= count else None

        return poll(
            look, timeout=timeout,
            what=lambda: f"{count} messages with {text!r}; there are {[m.text for m in self.in_(workspace)]} "
            f"{self.calls[-5:]} {self.mistakes}",
        )

    # ------------------------------------------------------------------------------------------------ what Slack does

    def _asked(self, oauth_url: str) -> dict[str, str]:
        """What the consent page is asked for; an AssertionError where Slack would show its error page."""
        parts = urlsplit(oauth_url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/oauth/v2/authorize"
        asked = dict(parse_qsl(parts.query, strict_parsing=True))
        assert asked.keys() == {"client_id", "scope", "user_scope", "redirect_uri", "state"}, asked
        assert asked["client_id"] == CLIENT_ID
        assert set(asked["scope"].split(",")) == BOT_SCOPES
        assert set(asked["user_scope"].split(",")) == USER_SCOPES
        assert not urlsplit(asked["redirect_uri"]).fragment
        return asked

    def _back(self, asked: Mapping[str, str], **said: str) -> str:
        to = urlsplit(asked["redirect_uri"])
        query = "&".join(filter(None, [to.query, urlencode({**said, "state": asked["state"]})]))
        return f"{to.path}?{query}"

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Said:
        if path.startswith("/actions/"):
            return self._respond(headers, body)
        method = path.removeprefix("/api/")
        known = {
            "api.test": self._test, "oauth.v2.access": self._exchange, "conversations.invite": self._invite,
            "chat.postMessage": self._post, "chat.update": self._update,
        }  # fmt: skip
        if method not in known:
            return self._wrong("unknown_method")
        with self._lock:
            self.calls.append(method)
            fault = next((each for each in self.faults if each.method == method), None)
            if fault is not None:
                self.faults.remove(fault)
                if fault.done:
                    known[method](headers, body)
                return fault.status, fault.body, fault.headers
            answer = known[method](headers, body)
        self.answers_go.wait(30)
        return answer

    def _test(self, headers: Mapping[str, str], body: bytes) -> Said:
        return 200, {"ok": True}, {}

    def _exchange(self, headers: Mapping[str, str], body: bytes) -> Said:
        if headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return self._wrong("invalid_post_type")
        form = {name: values[-1] for name, values in parse_qs(body.decode()).items()}
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if headers.get("authorization") != f"Basic {basic}" or form.keys() - {"code", "redirect_uri", "grant_type"}:
            return self._wrong("bad_client_secret")
        workspace, redirect_uri = self._codes.pop(form.get("code", ""), (None, ""))
        if workspace is None:
            return _no("invalid_code")
        if form.get("redirect_uri") != redirect_uri:
            return self._wrong("bad_redirect_uri")
        hook = f"{self.url}/services/{workspace.id}/B1/h00k-s3cret"
        return 200, {
            "ok": True, "access_token": workspace.bot_token, "token_type": "bot",
            "scope": "chat:write,incoming-webhook",
            "bot_user_id": workspace.bot_user_id, "app_id": "A0KRD7HC3",
            "team": {"name": workspace.name, "id": workspace.id}, "enterprise": None, "is_enterprise_install": False,
            "authed_user": {
                "id": "U1234", "scope": "channels:write", "access_token": workspace.user_token, "token_type": "user",
            },
            "incoming_webhook": {
                "channel": workspace.channel, "channel_id": workspace.channel_id, "url": hook,
                "configuration_url": "https://example.slack.com/services/B1",
            },
            **self.change,
        }, {}  # fmt: skip

    def _authorized(
        self, headers: Mapping[str, str], body: bytes, known: set[str], token: str
    ) -> tuple[Workspace, dict[str, Any]] | Said:
        """Who asks and what for, where that is as documented; `token` is the kind of token that has the scope."""
        word, _, given = headers.get("authorization", "").partition(" ")
        if word != "Bearer" or not given:
            return self._wrong("not_authed")
        kinds = {each.bot_token: (each, "bot") for each in self._workspaces.values()}
        kinds |= {each.user_token: (each, "user") for each in self._workspaces.values()}
        if given not in kinds:
            return self._wrong("invalid_auth")
        workspace, kind = kinds[given]
        if workspace.trouble:
            return _no(workspace.trouble)
        if kind != token:
            return self._wrong("missing_scope")
        if headers.get("content-type", "").replace(" ", "").lower() != "application/json;charset=utf-8":
            return self._wrong("invalid_form_data")  # without the charset Slack warns: missing_charset
        try:
            arguments = json.loads(body)
        except ValueError:
            return self._wrong("invalid_json")
        if not isinstance(arguments, dict):
            return self._wrong("json_not_object")
        if unknown := arguments.keys() - known:
            return self._wrong(f"invalid_arguments {sorted(unknown)}")
        if arguments.get("channel") != workspace.channel_id:
            return _no("channel_not_found")
        if workspace.archived:
            return _no("is_archived")
        return workspace, arguments

    def _invite(self, headers: Mapping[str, str], body: bytes) -> Said:
        found = self._authorized(headers, body, {"channel", "users", "force"}, "user")
        if len(found) == 3:
            return found
        workspace, arguments = found
        users = arguments.get("users")
        if not isinstance(users, str) or users.split(",") != [workspace.bot_user_id]:
            return self._wrong("user_not_found")
        if workspace.private:  # channels:write is for public ones; groups:write would be needed
            more = {"needed": "groups:write", "provided": "channels:write"}
            return 200, {"ok": False, "error": "missing_scope", **more}, {}
        if workspace.bot_user_id in workspace.members:
            return _no("already_in_channel")
        workspace.members.add(workspace.bot_user_id)
        channel = {"id": workspace.channel_id, "name": workspace.channel.strip("#"), "is_channel": True}
        return 200, {"ok": True, "channel": channel}, {}

    def _post(self, headers: Mapping[str, str], body: bytes) -> Said:
        found = self._authorized(headers, body, POST_ARGUMENTS, "bot")
        if len(found) == 3:
            return found
        workspace, arguments = found
        if workspace.bot_user_id not in workspace.members:
            return _no("not_in_channel")
        if problem := complaint(arguments):
            return self._wrong(problem)
        ts = f"{int(time.time())}.{next(_numbers):06d}"
        self.messages.append(Posted(workspace, ts, arguments["text"], arguments["blocks"]))
        return self._written(workspace, ts, arguments)

    def _update(self, headers: Mapping[str, str], body: bytes) -> Said:
        found = self._authorized(headers, body, UPDATE_ARGUMENTS, "bot")
        if len(found) == 3:
            return found
        workspace, arguments = found
        if not isinstance(arguments.get("ts"), str):
            return self._wrong("invalid_arguments ts")
        message = next((each for each in self.messages if each.ts == arguments["ts"]), None)
        if message is None or message.workspace is not workspace:
            return _no("message_not_found")
        if problem := complaint(arguments):
            return self._wrong(problem)
        message.text, message.blocks, message.writes = arguments["text"], arguments["blocks"], message.writes + 1
        return self._written(workspace, message.ts, arguments)

    def _written(self, workspace: Workspace, ts: str, arguments: Mapping[str, Any]) -> Said:
        message = {
            "bot_id": "B1", "type": "message", "user": workspace.bot_user_id, "ts": ts, "app_id": "A0KRD7HC3",
            "team": workspace.id, "text": arguments["text"], "blocks": arguments["blocks"],
            "bot_profile": {"id": "B1", "name": "Tocsin", "icons": {"image_36": "x" * 3000}},
        }  # fmt: skip
        # A message comes first and is long: nobody may count on what is at the start of an answer.
        return 200, {"ok": True, "message": message, "channel": workspace.channel_id, "ts": ts}, {}

    def _respond(self, headers: Mapping[str, str], body: bytes) -> Said:
        said = json.loads(body)
        if "application/json" not in headers.get("content-type", "") or said.keys() - {
            "text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts",
        }:  # fmt: skip
            return self._wrong("invalid_payload")
        self.told.append(said)
        return 200, {"ok": True}, {}

    def _wrong(self, error: str) -> Said:
        self.mistakes.append(error)
        return _no(error)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, said, more = slack._answer(self.path, headers, body)
                encoded = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(encoded)))
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing: pytest has its own ways to tell."""

        return Handler


def _no(error: str) -> Said:
    return 200, {"ok": False, "error": error}, {}
