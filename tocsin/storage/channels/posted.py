"""Messages that were posted about incidents, and are updated in place: which there are, and what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec.structs import replace

from tocsin.domain.deliveries import ONGOING_EVENTS
from tocsin.domain.incidents import Incident
from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import Content, Job, QueueEntry
from tocsin.storage.postgres.database import Tx, key

STANDING = "SELECT closed_at, resolved_by, acknowledged_by FROM incidents WHERE id = $1"

MESSAGES = """
SELECT place, name, closed FROM posted_messages WHERE integration_id = $1 AND incident_id = $2 ORDER BY at, name
"""

# The integration may have been deleted while the message was being sent.
NOTE = """
WITH old AS (
    DELETE FROM posted_messages WHERE (integration_id, incident_id, place, name) IN (
        SELECT integration_id, incident_id, place, name FROM posted_messages
        WHERE closed AND at < now() - interval '30 days' LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO posted_messages AS m (integration_id, incident_id, place, name, closed)
SELECT id, $2, $3, $4, $5 FROM integrations WHERE id = $1 FOR KEY SHARE
ON CONFLICT (integration_id, incident_id, place, name) DO UPDATE SET closed = m.closed OR excluded.closed
RETURNING closed
"""

FORGET = """
DELETE FROM posted_messages WHERE integration_id = $1 AND incident_id = $2 AND place = $3 AND name = $4
"""

SHOWN_BY = """
SELECT i.id FROM integrations i
CROSS JOIN LATERAL (SELECT FROM posted_messages WHERE integration_id = i.id AND incident_id = $2 LIMIT 1) m
WHERE i.project_id = $1 ORDER BY i.id
"""

HOLD = """
SELECT true FROM ongoing o
JOIN incidents i ON i.resource_id = o.resource_id AND i.type = o.type AND i.dedup_key = o.dedup_key
WHERE i.id = $1 AND o.incident_id = $1 FOR UPDATE OF o
"""

TELLING = """
SELECT true FROM outstanding WHERE integration_id = $1 AND incident_id = $2 AND event = $3 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One message about an incident: its `name` in its `place`. `closed`: it shows the incident as resolved."""

    place: str
    name: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class IncidentState:
    """The state of an incident: when it was resolved, if it was, and by whom; who has it."""

    closed_at: datetime | None = None
    resolved_by: str | None = None
    acknowledged_by: str | None = None


async def incident_state(tx: Tx, incident_id: UUID) -> IncidentState:
    """The current state of an incident."""
    row = await tx.fetchrow(STANDING, incident_id)
    return IncidentState(row["closed_at"], row["resolved_by"], row["acknowledged_by"]) if row else IncidentState()


async def messages(tx: Tx, integration_id: UUID, incident_id: UUID) -> Sequence[Message]:
    """The known messages about an incident, oldest first."""
    rows = await tx.fetch(MESSAGES, integration_id, incident_id)
    return [Message(row["place"], row["name"], row["closed"]) for row in rows]


async def note(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> bool:
    """Store a message. Returns whether it is known to show the incident as resolved."""
    return bool(await tx.fetchval(NOTE, integration_id, incident_id, message.place, message.name, message.closed))


async def forget(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> None:
    """Forget a message that no longer exists."""
    await tx.execute(FORGET, integration_id, incident_id, message.place, message.name)


async def hold(tx: Tx, incident_id: UUID) -> bool:
    """Whether that very incident is ongoing; if so, it is locked until the transaction ends."""
    return bool(await tx.fetchval(HOLD, incident_id))


async def correct(
    tx: Tx, integration_id: UUID, incident_id: UUID, event: Literal["acknowledged", "resolved"], content: Content
) -> None:
    """Update the messages about an incident that is acknowledged or resolved, unless that is already queued."""
    if await tx.fetchval(TELLING, integration_id, incident_id, event):
        return
    for to in (await queue.recipients(tx, [integration_id])).values():
        await queue.put(tx, [QueueEntry(to, event, content)])


async def correct_everywhere(tx: Tx, incident: Incident) -> None:
    """Update all messages about an ongoing incident, because somebody who had it has it no longer."""
    for row in await tx.fetch(SHOWN_BY, incident.project_id, incident.id):
        await correct(tx, key(row["id"]), incident.id, "acknowledged", queue.content(incident))


def receipt(written: Sequence[Message], lost: Sequence[Message], shown: IncidentState) -> dict[str, Any]:
    """What `record` needs to know: which messages were written, and who has the incident by what they say."""
    return {
        "written": [(message.place, message.name) for message in written],
        "lost": [(message.place, message.name) for message in lost],
        "has_it": shown.acknowledged_by,
    }


async def record(tx: Tx, job: Job, receipt: Mapping[str, Any]) -> None:
    """Store what was posted and what it shows, in the transaction that records the delivery.

    If somebody took the incident, or gave it back, while that was being posted, the message is updated at once.
    """
    incident = job.content.incident_id
    if incident is None:
        return
    for place, name in receipt["written"]:
        await note(tx, job.integration_id, incident, Message(place, name, job.event == "resolved"))
    for place, name in receipt["lost"]:
        await forget(tx, job.integration_id, incident, Message(place, name))
    if job.event == "acknowledged" or job.event in ONGOING_EVENTS:
        now = await incident_state(tx, incident)
        if now.closed_at is None and now.acknowledged_by != receipt["has_it"]:
            content = replace(job.content, acknowledged_by=now.acknowledged_by)
            await correct(tx, job.integration_id, incident, "acknowledged", content)


async def announce(tx: Tx, integration_id: UUID, message: str) -> None:
    """Post a message that is about no incident, through the queue."""
    now = await tx.fetchval("SELECT now()")
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    await queue.put(tx, [QueueEntry(to, "notice", Content(None, "", "Tocsin", "", "notice", message, now, None))])
