"""Connecting Slack: sending the browser to Slack for consent, and handling its return."""

from __future__ import annotations

import hmac
from typing import Any

import structlog
from litestar import Response, get, post

from tocsin.actions import slack as actions
from tocsin.actions.base import system
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.integrations import base
from tocsin.integrations import slack as kind
from tocsin.integrations.slack import CALLBACK, OFF
from tocsin.storage.channels import slack
from tocsin.storage.channels.slack import STATE_MINUTES, PendingConnection
from tocsin.storage.postgres.database import transaction
from tocsin.transports.slack import Grant, Slack, SlackRefused
from tocsin.web.render import message
from tocsin.web.session import AnyRequest, Person, Service, Viewer, fields, redirect, signed_in

log = structlog.get_logger(__name__)

MAX_LENGTH = 2_000
BACK_TO = "/integrations"

OLD = (
    f"Slack was not connected: this link was already used, or is older than {STATE_MINUTES} minutes. "
    "Please start again."
)
DENIED = "Slack was not connected: access was not granted at Slack."
OTHER_PROJECT = "Slack was not connected: Slack returned you to the address of another project."
OTHER_BROWSER = "Slack was not connected: it was started in another browser, or before you signed in again."


@post("/integrations/slack", include_in_schema=False, status_code=200)
async def connect(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Starts connecting Slack, for this browser session only; the page leads to Slack."""
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        consent = await actions.begin(
            tx, viewer.actor, service.vault, service.settings.slack, service.public_url, viewer.session_id
        )
    paragraphs = [
        f"At Slack you choose a workspace and a channel to notify about incidents of {viewer.project_name}.",
        f"This is valid for {STATE_MINUTES} minutes, in this browser.",
    ]
    return message("Connect Slack", *paragraphs, viewer=viewer, on=consent.oauth_url)


@get(CALLBACK, include_in_schema=False)
async def callback(
    request: AnyRequest, service: Service, code: str = "", error: str = "", project_uuid: str = ""
) -> Response[str]:
    """Turns the consent into an integration, or shows why it failed."""
    app = service.settings.slack
    if app is None:
        return _back(OFF)
    state = request.query_params.get("state", "")  # the framework reserves `state` as a parameter name
    if not state or max(map(len, (state, code, error, project_uuid))) > MAX_LENGTH:
        return _back(OLD)
    person = await signed_in(request)
    async with transaction(service.pool) as tx:
        begun = await slack.begun(tx, service.vault, state)
        if begun is None:
            return _back(OLD)
        # Another browser that comes with the state must change nothing.
        if refusal := _unfit(person, begun, project_uuid):
            return _back(refusal)
        await actions.use_state(tx, system(begun.project_id, begun.who), service.vault, state)
    if error or not code:
        return _back(DENIED if error in ("access_denied", "") else "Slack was not connected: Slack refused it.")
    client = Slack(app)
    try:
        grant = await client.exchange(code, kind.redirect_uri_of(service.public_url, begun.project_id))
        joined = await _joined(client, grant)
    except SlackRefused as refused:
        log.warning("a Slack workspace could not be connected", error=str(refused), code=refused.code)
        return _back(f"Slack was not connected: {refused}. Please start again.")
    finally:
        await client.close()
    try:
        async with transaction(service.pool) as tx:
            made = await actions.connect(
                tx, system(begun.project_id, begun.who), service.vault, begun, kind.granted(grant), service.public_url
            )
    except Refused as refused:
        if refused.status != 404:
            raise
        return _back("Slack was not connected: the project no longer exists.")
    name = base.display_name(made)
    if not joined:
        return redirect(
            BACK_TO, f"{name} is connected, but the bot could not join the channel: invite it there with /invite."
        )
    return redirect(BACK_TO, f"{name} is connected. Attach it to servers and monitors to get their notifications.")


def _unfit(person: Person | None, begun: PendingConnection, project_uuid: str) -> str | None:
    """Why this request may not complete the pending connection."""
    if project_uuid and not hmac.compare_digest(
        project_uuid.encode(), ids.public(ids.PROJECT, begun.project_id).encode()
    ):
        return OTHER_PROJECT
    if begun.session_id is not None and (person is None or person.session_id != begun.session_id):
        return OTHER_BROWSER
    return None


async def _joined(client: Slack, grant: Grant) -> bool:
    """Whether the bot joined the channel. To a private channel, its members have to invite it."""
    try:
        await kind.join(client, kind.granted(grant))
    except SlackRefused as refusal:
        log.warning("the Slack bot could not be invited", error=str(refusal))
        return False
    return True


def _back(message: str) -> Response[str]:
    return redirect(BACK_TO, message, good=False)


routes: list[Any] = [connect, callback]
