"""Slack's side of what is stored: connections that were begun, and which messages tell of which incident."""

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

# The integration may have been deleted while the message was on its way.
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

# Of a project that is connected to that workspace more than once, the integration of that channel.
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
    """A connection that somebody began: for which project, and in which browser session (None: through the API)."""

    project_id: UUID
    project_name: str
    session_id: UUID | None
    who: UUID | str


@dataclass(frozen=True, slots=True)
class Message:
    """One message about an incident; `closed` is whether it says that the incident has ended."""

    channel_id: str
    ts: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class IncidentState:
    """An incident as it stands: when it ended, if it did, and by whom."""

    closed_at: datetime | None = None
    resolved_by: str | None = None


async def begin(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, session_id: UUID | None = None) -> str:
    """A new state: good once, for ten minutes, and in that browser session where there is one."""
    state = new_token("")
    user_id, said = (who, None) if isinstance(who, UUID) else (None, who)
    await tx.execute(BEGIN, vault.token_hash(state), project_id, session_id, user_id, said)
    return state


async def begun(tx: Tx, vault: Vault, state: str) -> PendingConnection | None:
    """What was begun with that state, held until the transaction ends; None where it is not known (any more)."""
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
    """The state is worth nothing from now on."""
    await tx.execute(SPEND, vault.token_hashes(state))


async def announce(tx: Tx, integration_id: UUID, message: str) -> None:
    """Say something in the channel that an integration is for, by the queue."""
    now = await tx.fetchval("SELECT now()")
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    await queue.put(tx, [QueueEntry(to, "notice", Content(None, "", "Tocsin", "", "notice", message, now, None))])


async def incident_state(tx: Tx, incident_id: UUID) -> IncidentState:
    """How an incident stands at this moment."""
    row = await tx.fetchrow(STANDING, incident_id)
    return IncidentState(row["closed_at"], row["resolved_by"]) if row else IncidentState()


async def messages(tx: Tx, integration_id: UUID, incident_id: UUID) -> Sequence[Message]:
    """What is known of the messages that tell of an incident, oldest first."""
    rows = await tx.fetch(MESSAGES, integration_id, incident_id)
    return [Message(row["channel_id"], row["ts"], row["closed"]) for row in rows]


async def note(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> bool:
    """Remember a message; whether it says, as far as is known, that the incident has ended."""
    return bool(
        await tx.fetchval(NOTE, integration_id, incident_id, message.channel_id, message.ts, message.closed)
    )


async def forget(tx: Tx, integration_id: UUID, incident_id: UUID, message: Message) -> None:
    """A message that is not there any more."""
    await tx.execute(FORGET, integration_id, incident_id, message.channel_id, message.ts)


async def of_workspace(tx: Tx, incident_id: UUID, team_id: str, channel_id: str) -> tuple[UUID, UUID] | None:
    """The Slack integration by which that workspace is told of an incident, and its project; None where it is not."""
    row = await tx.fetchrow(OF_WORKSPACE, incident_id, team_id, channel_id)
    return (key(row["id"]), key(row["project_id"])) if row else None


async def hold(tx: Tx, incident_id: UUID) -> bool:
    """Whether that very incident lasts; if so, nobody else ends it before the transaction does."""
    return bool(await tx.fetchval(HOLD, incident_id))


async def correct(tx: Tx, integration_id: UUID, incident_id: UUID, said: Content) -> None:
    """Have the messages about an ended incident say so, where that is not under way."""
    if await tx.fetchval(TELLING, integration_id, incident_id):
        return
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    await queue.put(tx, [QueueEntry(to, "resolved", said)])
