"""Telegram: finding an integration's chat by a code, and the buttons of its messages."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.actions import buttons, integrations
from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.domain import ids
from tocsin.domain.errors import forbidden_state
from tocsin.domain.incidents import Incident
from tocsin.integrations.telegram import ACKNOWLEDGE, RESOLVE, TelegramIntegration, of_chat
from tocsin.storage.accounts import accounts
from tocsin.storage.channels import integrations as known
from tocsin.storage.channels import posted
from tocsin.storage.channels import telegram as stored
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.channels.posted import Message
from tocsin.storage.channels.telegram import Code
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.telegram import Chat

NOT_TELEGRAM = "Only a Telegram integration finds its chat by a code"
UNKNOWN_CHAT = "This incident no longer exists, or this chat is no longer connected to its project."


@dataclass(frozen=True, slots=True)
class ButtonPress:
    """One press of a button: of which bot's message, by whom, and the button's `data`."""

    bot_id: str
    message: Message
    person: str
    data: str


@action("made code for chat")
async def new_code(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[tuple[Integration, Code], Change]:
    """A code by which the integration finds its chat, or moves to another. Raises `Refused` (404, 422)."""
    found = await integrations.locked(tx, actor, vault, key)
    if found.type != stored.TELEGRAM:
        raise forbidden_state(NOT_TELEGRAM)
    return (found, await stored.new_code(tx, vault, found)), integrations.changed(found)


@action("connected chat", by=SYSTEM)
async def connect(
    tx: Tx, actor: Actor, vault: Vault, found: Integration, chat: Chat, public_url: str
) -> tuple[Integration, Change]:
    """The chat in which the integration's code was written is its chat from now on, and is told so."""
    kind = TelegramIntegration()
    settings = {**found.settings, **of_chat(chat)}
    made = await known.update(tx, vault, found, name=found.name, settings=settings, secret=kind.secret_settings)
    name = await accounts.project_name(tx, found.project_id)
    await posted.announce(
        tx, made.id,
        f"This chat is connected to the project {name} of Tocsin at {public_url} now "
        "and will be notified of its incidents.",
    )  # fmt: skip
    return made, integrations.changed(made, chat=chat.shown)


@unrecorded("resolving or acknowledging the incident is on record", by=SYSTEM)
async def press(tx: Tx, actor: Actor, vault: Vault, pressed: ButtonPress) -> Incident | str:
    """Do what the button says. The delivery that follows updates the message itself.

    Returns what to reply to the user: a text, or the incident if somebody else had resolved it.
    """
    verb, _, name = pressed.data.partition(":")
    incident_id = ids.parse(ids.INCIDENT, name)
    place = incident_id and await stored.of_chat(tx, incident_id, pressed.bot_id, pressed.message)
    if incident_id is None or not place:
        return UNKNOWN_CHAT
    by = f"{pressed.person} in Telegram"
    if verb == RESOLVE:
        return await buttons.resolve(tx, *place, incident_id, pressed.message, by=by) or "Resolved."
    if verb == ACKNOWLEDGE:
        said = await buttons.acknowledge(tx, vault, *place, incident_id, pressed.message, by=by)
        return said or "You have it: nobody else is told from now on."
    return UNKNOWN_CHAT
