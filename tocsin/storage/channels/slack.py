"""Slack: pending connections, and which messages belong to which incident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import Content, QueueEntry
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault, new_token

STATE_MINUTES = 10

SLACK = "Integrations::SlackIntegration"

BEGIN = f"""
WITH old AS (
    DELETE FROM slack_states WHERE hash IN (
        SELECT hash FROM slack_states WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO slack_states (hash, project_id, session_id, user_id, who, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + interval '{STATE_MINUTES} min')
"""

BEGUN = """
SELECT s.project_id, p.name AS project_name, s.session_id, s.user_id, s.who
FROM slack_states s JOIN projects p ON p.id = s.project_id
WHERE s.hash = ANY($1::bytea[]) AND s.expires_at > now()
FOR UPDATE OF s
"""

SPEND = "DELETE FROM slack_states WHERE hash = ANY($1::bytea[])"

STANDING = "SELECT closed_at, resolved_by FROM incidents WHERE id = $1"

MESSAGES = """
SELECT channel_id, ts, closed FROM slack_messages WHERE integration_id = $1 AND incident_id = $2 ORDER BY at, ts
"""

# The integration may have been deleted while the message was being sent.
NOTE = """
WITH old AS (
    DELETE FROM slack_messages WHERE (integration_id, incident_id, channel_id, ts) IN (
        SELECT integration_id, incident_id, channel_id, ts FROM slack_messages
        WHERE closed AND at < now() - interval '30 days' LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO slack_messages AS m (integration_id, incident_id, channel_id, ts, closed)
SELECT id, $2, $3, $4, $5 FROM integrations WHERE id = $1 FOR KEY SHARE
ON CONFLICT (integration_id, incident_id, channel_id, ts) DO UPDATE SET closed = m.closed OR excluded.closed
RETURNING closed
"""

FORGET = """
DELETE FROM slack_messages WHERE integration_id = $1 AND incident_id = $2 AND channel_id = $3 AND ts = $4
"""

# If a project is connected to that workspace more than once, the integration of that channel.
OF_WORKSPACE = f"""
SELECT n.id, n.project_id FROM incidents i JOIN integrations n ON n.project_id = i.project_id
WHERE i.id = $1 AND n.type = '{SLACK}' AND n.settings->>'team_id' = $2
ORDER BY n.settings->>'channel_id' = $3 DESC, n.id LIMIT 1
"""

HOLD = """
SELECT true FROM ongoing o JOIN incidents i ON i.resource_id = o.resource_id AND i.type = o.type
WHERE i.id = $1 AND o.incident_id = $1 FOR UPDATE OF o
"""

TELLING = """
SELECT true FROM outstanding WHERE integration_id = $1 AND incident_id = $2 AND event = 'resolved' LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PendingConnection:
    """A connection that somebody started: for which project, and in which browser session (None: through the API)."""

    project_id: UUID
    project_name: str
    session_id: UUID | None
    who: UUID | str


@dataclass(frozen=True, slots=True)
class Message:
    """One message about an incident; `closed`: it shows the incident as resolved."""

    channel_id: str
    ts: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class IncidentState:
    """The state of an incident: when it was resolved, if it was, and by whom."""

    closed_at: datetime | None = None
    resolved_by: str | None = None


async def begin(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, session_id: UUID | None = None) -> str:
    """A new state: valid once, for ten minutes, and only in that browser session if there is one."""
    state = new_token("")
    user_id, name = (who, None) if isinstance(who, UUID) else (None, who)
    await tx.execute(BEGIN, vault.token_hash(state), project_id, session_id, user_id, name)
    return state


async def begun(tx: Tx, vault: Vault, state: str) -> PendingConnection | None:
    """The connection of that state, locked until the transaction ends; None if it is unknown or expired."""
    row = await tx.fetchrow(BEGUN, vault.token_hashes(state))
    if row is None:
        return None
    return PendingConnection(
        key(row["project_id"]),
        row["project_name"],
        key(row["session_id"]) if row["session_id"] else None,
        key(row["user_id"]) if row["user_id"] else row["who"],
    )


async def use_state(tx: Tx, vault: Vault, state: str) -> None:
    """Invalidate the state."""
    await tx.execute(SPEND, vault.token_hashes(state))


async def announce(tx: Tx, integration_id: UUID, message: str) -> None:
    """Post a message to an integration's channel, through the queue."""
    now = await tx.fetchval("SELECT now()")
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    await queue.put(tx, [QueueEntry(to, "notice", Content(None, "", "Tocsin", "", "notice", message, now, None))])


async def incident_state(tx: Tx, incident_id: UUID) -> IncidentState:
    """The current state of an incident."""
    row = await tx.fetchrow(STANDING, incident_id)
    return IncidentState(row["closed_at"], row["resolved_by"]) if row else IncidentState()


async def messages(tx: Tx, integration_id: UUID, incident_id: UUID) -> Sequence[Message]:
    """The known messages about an incident, oldest first."""
    rows = await tx.fetch(MESSAGES, integration_id, incident_id)
    return [Message(row["channel_id"], row["ts"], row["closed"]) for row in rows]


async def note(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> bool:
    """Store a message. Returns whether it is known to show the incident as resolved."""
    return bool(
        await tx.fetchval(NOTE, integration_id, incident_id, message.channel_id, message.ts, message.closed)
    )


async def forget(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> None:
    """Forget a message that no longer exists."""
    await tx.execute(FORGET, integration_id, incident_id, message.channel_id, message.ts)


async def of_workspace(tx: Tx, incident_id: UUID, team_id: str, channel_id: str) -> tuple[UUID, UUID] | None:
    """The Slack integration that notifies that workspace of an incident, and its project; None if there is none."""
    row = await tx.fetchrow(OF_WORKSPACE, incident_id, team_id, channel_id)
    return (key(row["id"]), key(row["project_id"])) if row else None


async def hold(tx: Tx, incident_id: UUID) -> bool:
    """Whether that very incident is ongoing; if so, it is locked until the transaction ends."""
    return bool(await tx.fetchval(HOLD, incident_id))


async def correct(tx: Tx, integration_id: UUID, incident_id: UUID, content: Content) -> None:
    """Update the messages about a resolved incident, unless that is already queued."""
    if await tx.fetchval(TELLING, integration_id, incident_id):
        return
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    await queue.put(tx, [QueueEntry(to, "resolved", content)])
