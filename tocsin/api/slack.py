"""Slack: beginning to connect a channel, and presses of the Resolve button."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.background_tasks import BackgroundTask

from tocsin import settings as configuration
from tocsin.api.caller import Caller
from tocsin.api.service import Service
from tocsin.domain import ids, names
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Incident
from tocsin.integrations import slack as kind
from tocsin.integrations.slack import OFF, RESOLVE, escaped
from tocsin.storage import incidents, slack
from tocsin.storage.database import Tx
from tocsin.storage.queue import content
from tocsin.storage.slack import Message
from tocsin.transports.slack import Slack, SlackRefused

log = structlog.get_logger(__name__)

LONGEST_NAME = 100
LONGEST_BODY = 128 * 1024
"""A press comes with the whole message that it was on; until its signature is looked at, it comes from anybody."""


class SlackInitiated(msgspec.Struct):
    oauth_url: str
    state: str
    redirect_uri: str


@post("/api/v1/integrations/slack/initiate", status_code=200)
async def initiate(caller: Caller, service: Service) -> SlackInitiated:
    """Begin to connect a Slack channel

    Open `oauth_url` in a browser within 10 minutes; the integration is there when Slack has sent that browser back.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        way = await kind.begin(
            tx, service.vault, service.settings.slack, service.public_url, caller.project_id, caller.who
        )
    return SlackInitiated(way.oauth_url, way.state, way.redirect_uri)


@dataclass(frozen=True, slots=True)
class Press:
    """One press of the button: in which workspace, on which message, by whom, for which incident (`INC…`)."""

    team_id: str
    channel_id: str
    ts: str
    person: str
    incident: str
    response_url: str


@post("/slack/interactions", status_code=200, include_in_schema=False, request_max_body_size=LONGEST_BODY)
async def interactions(request: Request[Any, Any, Any], service: Service) -> Response[str]:
    """A press resolves its incident. Slack is answered at once; the message is changed by the delivery that follows.

    https://docs.slack.dev/interactivity/handling-user-interaction,
    https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
    """
    app = service.settings.slack
    if app is None:
        raise Refused(503, "slack_unavailable", OFF)
    body = await request.body()
    if not _signed(app, body, request):
        raise Refused(401, "unauthorized", "This is not signed by the Slack app that is set up here, or too old")
    pressed = press(body)
    if pressed is None:
        return Response("", media_type="text/plain")
    async with service.pool.acquire() as tx, tx.transaction():
        words = await _resolve(tx, pressed)
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


def press(body: bytes) -> Press | None:
    """The press that a signed body tells of; None for whatever else Slack reports."""
    try:
        said = json.loads(parse_qs(body.decode())["payload"][0])
        [action] = [each for each in said["actions"] if each["action_id"] == RESOLVE]
        if said["type"] != "block_actions":
            return None
        user, team_id = said["user"], said["team"]["id"]
        person = user.get("name") or user.get("username") or user["id"]
        found = Press(
            team_id, said["container"]["channel_id"], said["container"]["message_ts"],
            names.cut(names.line(str(person)[: 4 * LONGEST_NAME]), LONGEST_NAME), action["value"],
            said.get("response_url") or "",
        )  # fmt: skip
        # In a channel that two workspaces share, people of the other see the button, too.
        if user.get("team_id", team_id) != team_id:
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    values = (found.team_id, found.channel_id, found.ts, found.incident, found.response_url)
    return found if all(isinstance(value, str) and "\0" not in value for value in values) else None


async def _resolve(tx: Tx, pressed: Press) -> str:
    """Do what was wished; what its presser is to be told, where the message itself will not say it."""
    incident_id = ids.parse(ids.INCIDENT, pressed.incident)
    place = incident_id and await slack.of_workspace(tx, incident_id, pressed.team_id, pressed.channel_id)
    if incident_id is None or not place:
        return "This incident is not known any more, or this workspace is not connected to its project any more."
    integration_id, project_id = place
    lasts = await slack.hold(tx, incident_id)
    incident = await incidents.one(tx, project_id, incident_id)
    if incident is None:
        return "This incident is not known any more."
    # The message may be one that nobody remembers: its engine died between posting it and saying so.
    closed = await slack.note(tx, integration_id, incident_id, Message(pressed.channel_id, pressed.ts))
    if lasts:
        by = f"{pressed.person} in Slack"
        incident = await incidents.resolve_by_hand(tx, incident, by, by)
    if not closed:
        await slack.correct(tx, integration_id, incident_id, content(incident))
    return "" if lasts else _was_first(incident)


def _was_first(incident: Incident) -> str:
    by = escaped(incident.resolved_by or "somebody else", 300)
    at = incident.closed_at or incident.updated_at
    when = f"<!date^{int(at.timestamp())}^{{date_short_pretty}} at {{time_secs}}|{at:%Y-%m-%d %H:%M:%S} UTC>"
    return f"This incident was resolved already: by {by}, {when}."


async def _tell(app: configuration.Slack, pressed: Press, words: str) -> None:
    """After the answer, and only to whoever pressed."""
    if not pressed.response_url:
        return
    client = Slack(app)
    try:
        said = {"response_type": "ephemeral", "replace_original": False, "text": words}
        await client.respond(pressed.response_url, said)
    except SlackRefused as refusal:
        log.warning("the presser of a button could not be told", error=str(refusal))
    finally:
        await client.close()


routes: list[Any] = [initiate, interactions]
