"""Slack: starting to connect a channel, and presses of the buttons of messages."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.background_tasks import BackgroundTask

from tocsin import settings as configuration
from tocsin.actions import slack as actions
from tocsin.actions.base import Actor, system
from tocsin.actions.slack import ButtonPress
from tocsin.api.service import Service
from tocsin.domain import names
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Incident
from tocsin.integrations.slack import ACKNOWLEDGE, OFF, RESOLVE, escaped
from tocsin.storage.postgres.database import transaction
from tocsin.transports.slack import Slack, SlackRefused

log = structlog.get_logger(__name__)

MAX_NAME_LENGTH = 100
MAX_BODY_LENGTH = 128 * 1024
"""A press includes the whole message; until its signature is checked, it may come from anybody."""


class SlackInitiated(msgspec.Struct):
    oauth_url: str
    state: str
    redirect_uri: str


@post("/api/v1/integrations/slack/initiate", status_code=200)
async def initiate(caller: Actor, service: Service) -> SlackInitiated:
    """Start to connect a Slack channel

    Open `oauth_url` in a browser within 10 minutes; the integration exists once Slack has sent that browser back.
    """
    async with transaction(service.pool) as tx:
        consent = await actions.begin(tx, caller, service.vault, service.settings.slack, service.public_url)
    return SlackInitiated(consent.oauth_url, consent.state, consent.redirect_uri)


@post("/slack/interactions", status_code=200, include_in_schema=False, request_max_body_size=MAX_BODY_LENGTH)
async def interactions(request: Request[Any, Any, Any], service: Service) -> Response[str]:
    """A press resolves or acknowledges its incident. Slack gets a response at once; a delivery updates the message.

    https://docs.slack.dev/interactivity/handling-user-interaction,
    https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
    """
    app = service.settings.slack
    if app is None:
        raise Refused(503, "slack_unavailable", OFF)
    body = await request.body()
    if not _signed(app, body, request):
        raise Refused(401, "unauthorized", "The signature is not of the Slack app that is set up here, or too old")
    pressed = press(body)
    if pressed is None:
        return Response("", media_type="text/plain")
    async with transaction(service.pool) as tx:
        found = await actions.press(tx, system(), service.vault, pressed)
    words = _was_first(found) if isinstance(found, Incident) else found
    task = BackgroundTask(_tell, app, pressed, words) if words else None
    return Response("", media_type="text/plain", background=task)


def _signed(app: configuration.Slack, body: bytes, request: Request[Any, Any, Any]) -> bool:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    from slack_sdk.signature import SignatureVerifier

    moment = request.headers.get("x-slack-request-timestamp", "")
    given = request.headers.get("x-slack-signature", "")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 12 and given.isascii()):
        return False
    try:
        return bool(SignatureVerifier(app.signing_secret).is_valid(body, moment, given))
    except UnicodeDecodeError:
        return False


def press(body: bytes) -> ButtonPress | None:
    """The press in a signed body; None for any other payload of Slack."""
    try:
        payload = json.loads(parse_qs(body.decode())["payload"][0])
        [action] = [each for each in payload["actions"] if each["action_id"] in (ACKNOWLEDGE, RESOLVE)]
        if payload["type"] != "block_actions":
            return None
        user, team_id = payload["user"], payload["team"]["id"]
        person = user.get("name") or user.get("username") or user["id"]
        found = ButtonPress(
            team_id, payload["container"]["channel_id"], payload["container"]["message_ts"],
            names.cut(names.line(str(person)[: 4 * MAX_NAME_LENGTH]), MAX_NAME_LENGTH), action["value"],
            payload.get("response_url") or "", action["action_id"],
        )  # fmt: skip
        # In a channel that two workspaces share, users of the other one see the button, too.
        if user.get("team_id", team_id) != team_id:
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    values = (found.team_id, found.channel_id, found.ts, found.incident, found.response_url)
    return found if all(isinstance(value, str) and "\0" not in value for value in values) else None


def _was_first(incident: Incident) -> str:
    by = escaped(incident.resolved_by or "somebody else", 300)
    at = incident.closed_at or incident.updated_at
    when = f"<!date^{int(at.timestamp())}^{{date_short_pretty}} at {{time_secs}}|{at:%Y-%m-%d %H:%M:%S} UTC>"
    return f"This incident was resolved already: by {by}, {when}."


async def _tell(app: configuration.Slack, pressed: ButtonPress, words: str) -> None:
    """After the response, and only to the user who pressed."""
    if not pressed.response_url:
        return
    client = Slack(app)
    try:
        payload = {"response_type": "ephemeral", "replace_original": False, "text": words}
        await client.respond(pressed.response_url, payload)
    except SlackRefused as refusal:
        log.warning("could not reply to the Slack user who pressed the button", error=str(refusal))
    finally:
        await client.close()


routes: list[Any] = [initiate, interactions]
