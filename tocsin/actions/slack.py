"""Slack: connecting a channel by consent, and the button that resolves an incident from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tocsin import settings as configuration
from tocsin.actions import buttons
from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.domain import ids
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.incidents import Incident
from tocsin.integrations.slack import ACKNOWLEDGE, OFF, RESOLVE, SlackIntegration, redirect_uri_of
from tocsin.storage.accounts import accounts
from tocsin.storage.channels import integrations, posted
from tocsin.storage.channels import slack as stored
from tocsin.storage.channels.integrations import Facts, Integration
from tocsin.storage.channels.posted import Message
from tocsin.storage.channels.slack import PendingConnection
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.slack import authorize_url

UNKNOWN_WORKSPACE = "This incident no longer exists, or this workspace is no longer connected to its project."


@dataclass(frozen=True, slots=True)
class Consent:
    """The URLs for consent: where a person goes, and where Slack sends them back to."""

    oauth_url: str
    state: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class ButtonPress:
    """One press of a button (`action`): in which workspace, on which message, by whom, for which incident (`INC…`)."""

    team_id: str
    channel_id: str
    ts: str
    person: str
    incident: str
    response_url: str
    action: str = RESOLVE


@action("began to connect Slack")
async def begin(
    tx: Tx, actor: Actor, vault: Vault, app: configuration.Slack | None, public_url: str,
    session_id: UUID | None = None,
) -> tuple[Consent, Change]:
    """Start to connect a channel. With a `session_id`, only that browser session can finish it.

    Raises `Refused` (503) if Slack is not set up.
    """
    if app is None:
        raise Refused(503, "slack_unavailable", OFF)
    state = await stored.begin(tx, vault, actor.project_id, actor.user_id or actor.name, session_id)
    redirect_uri = redirect_uri_of(public_url, actor.project_id)
    consent = Consent(authorize_url(app, state, redirect_uri), state, redirect_uri)
    return consent, Change("Slack", {"through": _through(session_id)})


@unrecorded("what was begun by it is on record", by=SYSTEM)
async def use_state(tx: Tx, actor: Actor, vault: Vault, state: str) -> None:
    """Use up the state: the connection that it started is being completed."""
    await stored.use_state(tx, vault, state)


@action("made integration", by=SYSTEM)
async def connect(
    tx: Tx, actor: Actor, vault: Vault, begun: PendingConnection, granted: Mapping[str, Any], public_url: str
) -> tuple[Integration, Change]:
    """The integration, announced in its channel. Raises `Refused` (404) if the project no longer exists."""
    kind = SlackIntegration()
    if not await accounts.hold_project(tx, begun.project_id):
        raise not_found("project")
    name, through = kind.default_name(granted), _through(begun.session_id)
    made = await integrations.create(
        tx, vault, begun.project_id, kind.type, Facts(kind.for_people, kind.repeatable),
        name=name, settings=granted, secret=kind.secret_settings,
    )  # fmt: skip
    await posted.announce(
        tx, made.id,
        f"This channel is connected to the project {begun.project_name} of Tocsin at {public_url} now "
        f"and will be notified of its incidents. It was started through {through}.",
    )  # fmt: skip
    return made, Change(name, {"uuid": ids.public(ids.INTEGRATION, made.id), "type": kind.type, "through": through})


@unrecorded("resolving or acknowledging the incident is on record", by=SYSTEM)
async def press(tx: Tx, actor: Actor, vault: Vault, pressed: ButtonPress) -> Incident | str:
    """Do what the button says. The delivery that follows updates the message itself.

    Returns what to reply to the user: a text, or the incident if somebody else had resolved it.
    """
    incident_id = ids.parse(ids.INCIDENT, pressed.incident)
    place = incident_id and await stored.of_workspace(tx, incident_id, pressed.team_id, pressed.channel_id)
    if incident_id is None or not place:
        return UNKNOWN_WORKSPACE
    message = Message(pressed.channel_id, pressed.ts)
    by = f"{pressed.person} in Slack"
    if pressed.action == ACKNOWLEDGE:
        return await buttons.acknowledge(tx, vault, *place, incident_id, message, by=by)
    return await buttons.resolve(tx, *place, incident_id, message, by=by)


def _through(session_id: UUID | None) -> str:
    return "the console" if session_id else "the API"
