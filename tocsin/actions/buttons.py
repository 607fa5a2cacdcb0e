"""Buttons of messages in chats: a press concerns the incident that the message is about."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions import incidents
from tocsin.actions.base import system
from tocsin.domain.incidents import Incident
from tocsin.storage.channels import posted
from tocsin.storage.channels.posted import Message
from tocsin.storage.delivery import incidents as stored
from tocsin.storage.delivery.queue import content
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

UNKNOWN_INCIDENT = "This incident no longer exists."


async def resolve(
    tx: Tx, integration_id: UUID, project_id: UUID, incident_id: UUID, message: Message, *, by: str
) -> Incident | str:
    """Resolve the incident, on behalf of whoever pressed. The delivery that follows updates the message itself.

    Returns what to reply to them: a text, or the incident if somebody else had resolved it.
    """
    lasts = await posted.hold(tx, incident_id)
    incident = await stored.one(tx, project_id, incident_id)
    if incident is None:
        return UNKNOWN_INCIDENT
    # The message may be unknown: its engine died between posting and recording it.
    closed = await posted.note(tx, integration_id, incident_id, message)
    if lasts:
        incident = await incidents.resolve(tx, system(project_id, by), incident_id, by=by)
    if not closed:
        await posted.correct(tx, integration_id, incident_id, "resolved", content(incident))
    return "" if lasts else incident


async def acknowledge(
    tx: Tx, vault: Vault, integration_id: UUID, project_id: UUID, incident_id: UUID, message: Message, *, by: str
) -> Incident | str:
    """Let whoever pressed have the incident. The delivery that follows updates the message itself.

    Returns what to reply to them: a text, or the incident if it is resolved already.
    """
    lasts = await posted.hold(tx, incident_id)
    incident = await stored.one(tx, project_id, incident_id)
    if incident is None:
        return UNKNOWN_INCIDENT
    closed = await posted.note(tx, integration_id, incident_id, message)
    if not lasts:
        if not closed:
            await posted.correct(tx, integration_id, incident_id, "resolved", content(incident))
        return incident
    if incident.acknowledged_by is not None:
        await posted.correct(tx, integration_id, incident_id, "acknowledged", content(incident))
        return f"{incident.acknowledged_by} has it already."
    incident = await incidents.acknowledge(tx, system(project_id, by), vault, incident_id, by=by)
    await posted.correct(tx, integration_id, incident_id, "acknowledged", content(incident))
    return ""
