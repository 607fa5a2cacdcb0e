"""Slack's Web API: the few methods that connecting, posting and updating need.

https://docs.slack.dev/apis/web-api/, https://docs.slack.dev/authentication/installing-with-oauth
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from tocsin import settings
from tocsin.domain import names
from tocsin.domain.deliveries import ATTEMPT_TIMEOUT, RESPONSE_LIMIT
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Answer, Http, Unreachable

BOT_SCOPES = "chat:write,incoming-webhook"
USER_SCOPES = "channels:write"

NAMES = frozenset({"team_name", "channel"})
"""Names that people chose in Slack; the rest of a grant comes from Slack itself."""

ANSWER_LIMIT = 256 << 10
"""Bytes of a response that are read: it repeats a message with all its blocks."""
_MORE, _COLON, _END = map(re.compile, (r"\s*[{,]\s*", r"\s*:\s*", r"\s*(?:[,}]|$)"))


class SlackRefused(Exception):
    """Slack refused or failed. `code` is Slack's error code, `unreachable` or `unreadable`.

    `retry_after` is in seconds, if Slack asked for a wait; `response` is the start of its response.
    """

    def __init__(
        self, code: str, message: str, status: int | None = None, retry_after: float | None = None, response: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.response = response


@dataclass(frozen=True, slots=True)
class Grant:
    """What a workspace granted: the tokens, and the channel that the person chose."""

    bot_token: str = field(repr=False)
    user_token: str = field(repr=False)
    webhook_url: str = field(repr=False)
    channel_id: str
    channel: str
    bot_user_id: str
    team_id: str
    team_name: str


class Slack:
    """For one event loop. Its hosts are the operator's own choice: the guard on projects' addresses is not for them."""

    def __init__(self, app: settings.Slack) -> None:
        self._app = app
        self._http = Http(Guard(EVERYWHERE), keep=ANSWER_LIMIT, patience=ATTEMPT_TIMEOUT)

    async def call(self, method: str, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """One call of a method that takes JSON, on behalf of `token`. Raises `SlackRefused`."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json; charset=utf-8"}
        return await self._ask(method, json.dumps(arguments).encode(), headers)

    async def exchange(self, code: str, redirect_uri: str) -> Grant:
        """What the person at Slack consented to (https://docs.slack.dev/reference/methods/oauth.v2.access).

        Raises `SlackRefused`; its text never holds a token.
        """
        form = urlencode({"code": code, "redirect_uri": redirect_uri}).encode()
        credentials = b64encode(f"{self._app.client_id}:{self._app.client_secret}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
        return self._grant(await self._ask("oauth.v2.access", form, headers))

    async def check(self) -> str:
        """Whether Slack can be reached, as text (https://docs.slack.dev/reference/methods/api.test).

        Raises `SlackRefused`. Whether the app's secrets are right shows only at the first consent.
        """
        await self._ask("api.test", b"", {"Content-Type": "application/x-www-form-urlencoded"})
        return "Slack answers; whether the app's secrets are right shows at the first consent"

    async def respond(self, response_url: str, message: Mapping[str, Any]) -> None:
        """Reply to the user who pressed a button. Raises `SlackRefused`."""
        if not is_slack_url(self._app, response_url):
            raise SlackRefused("unreadable", "the address to answer to is not Slack's")
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = await self._post(response_url, json.dumps(message).encode(), headers)
        if answer.status != 200:
            raise SlackRefused("unreadable", f"Slack answered {answer.status}", answer.status)

    async def close(self) -> None:
        await self._http.close()

    async def _ask(self, method: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
        answer = await self._post(f"{self._app.api_url}{method}", body, {**headers, "Accept": "application/json"})
        try:
            payload = json.loads(answer.text)
        except (ValueError, RecursionError):
            payload = _begun(answer.text)
        if not isinstance(payload, dict):
            payload = {}
        if answer.status == 200 and (payload.get("ok") is True or ("ok" not in payload and _cut_off(answer))):
            return payload
        raise _refused(method, answer, payload)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            return await self._http.post(url, body, headers)
        except Unreachable as error:
            raise SlackRefused("unreachable", f"Slack: {error}") from error

    def _grant(self, payload: Mapping[str, Any]) -> Grant:
        try:
            hook, user, team = payload["incoming_webhook"], payload["authed_user"], payload["team"]
            values = {
                "bot_token": payload["access_token"],
                "user_token": user["access_token"],
                "webhook_url": hook["url"],
                "channel_id": hook["channel_id"],
                "channel": hook["channel"],
                "bot_user_id": payload["bot_user_id"],
                "team_id": team["id"],
                "team_name": team["name"],
            }
        except (KeyError, TypeError):
            raise SlackRefused(
                "unreadable",
                "Slack did not grant all that is needed: a workspace (not a whole organization), a channel, "
                f"the bot scopes {BOT_SCOPES} and the user scope {USER_SCOPES}",
            ) from None
        if not all(
            isinstance(value, str) and value and (value.isprintable() or field in NAMES)
            for field, value in values.items()
        ):
            raise SlackRefused("unreadable", "Slack's answer is not of its documented form")
        if "refresh_token" in payload:
            raise SlackRefused("unreadable", "The Slack app has token rotation switched on; it must be off")
        if not is_slack_url(self._app, values["webhook_url"]):
            raise SlackRefused("unreadable", "The webhook address that came with the consent is not on Slack's host")
        return Grant(**values | {field: names.line(values[field]) for field in NAMES})


def authorize_url(app: settings.Slack, state: str, redirect_uri: str) -> str:
    """The URL at which a person consents."""
    query = urlencode(
        {
            "client_id": app.client_id, "redirect_uri": redirect_uri, "state": state,
            "scope": BOT_SCOPES, "user_scope": USER_SCOPES,
        }
    )  # fmt: skip
    return f"{app.authorize_url}{'&' if urlsplit(app.authorize_url).query else '?'}{query}"


def is_slack_url(app: settings.Slack, url: str) -> bool:
    """Whether an address is on Slack's own host, or on that of the API that the operator has set."""
    try:
        given, api = urlsplit(url), urlsplit(app.api_url)
        if (given.scheme, given.hostname, given.port) == (api.scheme, api.hostname, api.port):
            return True
        return given.scheme == "https" and given.port in (None, 443) and (
            f".{given.hostname}".endswith(".slack.com") and given.username is None
        )
    except ValueError:
        return False


def _cut_off(answer: Answer) -> bool:
    """Whether the missing rest may have said `ok`: the call may have succeeded, and a retry would post a duplicate."""
    return not answer.complete and answer.text.lstrip()[:1] in ("", "{")


def _begun(text: str) -> dict[str, Any]:
    """The complete members of a JSON object that was cut off.

    For an `ok` (https://docs.slack.dev/apis/web-api/#responses) that is not true the first letter is enough.
    """
    found: dict[str, Any] = {}
    decode = json.JSONDecoder().raw_decode
    at = 0
    try:
        while more := _MORE.match(text, at):
            name, at = decode(text, more.end())
            if (colon := _COLON.match(text, at)) is None or not isinstance(name, str):
                break
            at = colon.end()
            if name == "ok" and text.startswith("f", at):
                found[name] = False
            value, at = decode(text, at)
            if not _END.match(text, at):
                break
            found[name] = value
    except (ValueError, RecursionError):
        pass
    return found


def _refused(method: str, answer: Answer, payload: Mapping[str, Any]) -> SlackRefused:
    given = payload.get("error")
    code = given[:100] if isinstance(given, str) and given.isascii() and given.isprintable() else "unreadable"
    if answer.status == 429:
        code = "ratelimited"
    elif answer.status >= 500 and code == "unreadable":
        code = "service_unavailable"
    asked = answer.headers.get("retry-after", "").strip()
    wait = float(asked[:9]) if asked.isascii() and asked.isdigit() else None
    what = f"answered {answer.status}" if code == "unreadable" else f"said {code}"
    # The answer of oauth.v2.access may contain tokens, even if it is malformed.
    response = "" if method.startswith("oauth.") else answer.text[:RESPONSE_LIMIT]
    return SlackRefused(code, f"Slack {what} to {method}", answer.status, wait, response)
