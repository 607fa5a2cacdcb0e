"""Replies of people who were notified, and who are not signed in: by the link in a mail, and by SMS."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions import incidents, limits
from tocsin.actions.base import SYSTEM, Actor, system, unrecorded
from tocsin.domain import names, phones
from tocsin.domain.incidents import Incident
from tocsin.integrations import base
from tocsin.storage.accounts.links import Acknowledgement
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.channels import integrations, posted, sms_replies
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.delivery import incidents as stored
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

REPLIES = Limit(20, 3600)
"""For each number: what is answered to them costs money."""
WORDS = frozenset({"ack", "1"})
MAX_TEXT_LENGTH = 300

NOTHING = "There is nothing to acknowledge: this number was told of no incident in the last 24 hours."


@unrecorded("acknowledging the incident is on record", by=SYSTEM)
async def by_link(tx: Tx, actor: Actor, vault: Vault, link: Acknowledgement) -> Incident | None:
    """Let the reader of a mail have its incident, unless it is resolved or somebody has it. Returns it as it is then.

    None if the incident or the integration does not exist any more.
    """
    to = await recipient(tx, vault, link)
    if to is None:
        return None
    return await _take(tx, vault, to.project_id, link.incident_id, f"{of_mail(to)} by mail")


@unrecorded("acknowledging the incident is on record", by=SYSTEM)
async def by_sms(tx: Tx, actor: Actor, vault: Vault, number: str, text: str) -> str | None:
    """Do what a text message from that number says; `ack` or `1` acknowledges what it was last told.

    Returns what to answer, or None for nothing: to other texts, and to too many of them.
    """
    if text.strip().strip(".!").lower() not in WORDS:
        return None
    if not await limits.allows(tx, actor, f"replies by SMS from {number}", REPLIES):
        return None
    told = await sms_replies.last_told(tx, number)
    if told is None:
        return NOTHING
    by = f"{told.name or phones.display(number)} by SMS"
    incident = await _take(tx, vault, told.project_id, told.incident_id, by)
    if incident is None:
        return NOTHING
    what = names.line(f"{incident.type} on {incident.resource_name}")
    if incident.closed_at is not None:
        return names.cut(f"Resolved already: {what}", MAX_TEXT_LENGTH)
    if incident.acknowledged_by != by:
        return names.cut(f"{incident.acknowledged_by} has it already: {what}", MAX_TEXT_LENGTH)
    return names.cut(f"You have it: {what}", MAX_TEXT_LENGTH)


async def recipient(tx: Tx, vault: Vault, link: Acknowledgement) -> Sendable | None:
    """The integration that was sent the link, if it is there."""
    return (await integrations.sendable(tx, vault, [link.integration_id])).get(link.integration_id)


def of_mail(to: Sendable) -> str:
    """What the reader is called by."""
    return base.of(to.type).default_name(to.settings)


async def _take(tx: Tx, vault: Vault, project_id: UUID, incident_id: UUID, by: str) -> Incident | None:
    lasts = await posted.hold(tx, incident_id)
    incident = await stored.one(tx, project_id, incident_id)
    if incident is None or not lasts or incident.acknowledged_by is not None:
        return incident
    return await incidents.acknowledge(tx, system(project_id, by), vault, incident_id, by=by)
